"""The circuit breaker of a provider account: when nobody asks it, and when one may find out whether it is well. Pure.

Closed, it keeps the instants of the last failures that say "the provider is ill". Each leaves after `span`, and a
success takes one off. With `threshold` of them it opens: nobody asks for `open_for`, then one probe goes, whichever
daemon takes it (half open). The probe's answer closes it, its failure opens it for as long again. A probe that nobody
reports on is followed by another after `open_for`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from outboxd.core.outcome import Ambiguous, Failed, Failure, Outcome, Sent, SentAll

CONFLICT: Final = 409  # the provider is at work on this very key, or on this resource: it is not ill
SOON: Final = timedelta(seconds=1)  # until the next probe, where the last one found nothing
LONGEST: Final = 200  # characters of a cause

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Breaker:
    """One account's breaker; instants are the database's clock, `failed_at` is in order, oldest first.

    `opened_at`, `probe_at` and `cause` are set while it is not closed; `probes` were taken since it opened.
    """

    state: State = "closed"
    failed_at: tuple[datetime, ...] = ()
    opened_at: datetime | None = None
    probe_at: datetime | None = None
    cause: str | None = None
    probes: int = 0
    threshold: int = 10
    span: timedelta = timedelta(seconds=60)
    open_for: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class News:
    """What some answers in a row come to: `healed` successes that came first, then `failed` failures that are left."""

    healed: int = 0
    failed: int = 0
    cause: str | None = None


def illness(outcome: Outcome | SentAll) -> Failure | None:
    """Why the provider is ill, where the outcome of an ask says so. Message errors, throttles and pauses never do."""
    match outcome:
        case Ambiguous(failure) | Failed(failure, transient=True) if failure.status != CONFLICT:
            return failure
        case _:
            return None


def gathered(outcomes: Iterable[Outcome | SentAll]) -> News:
    """The news of these asks, in the order in which they ended."""
    healed, failed, cause = 0, 0, None
    for outcome in outcomes:
        if (failure := illness(outcome)) is not None:
            failed, cause = failed + 1, _cause(failure)
        elif isinstance(outcome, Sent | SentAll):
            healed, failed = (healed, failed - 1) if failed else (healed + 1, 0)
    return News(healed, failed, cause)


def after(breaker: Breaker, news: News, *, now: datetime) -> Breaker:
    """The breaker once it heard the news. What was asked before it opened says nothing new while it is open."""
    if breaker.state != "closed":
        return breaker
    recent = [at for at in breaker.failed_at if at > now - breaker.span][news.healed :]
    failed_at = (*recent, *[now] * news.failed)[-breaker.threshold :]
    if news.failed and len(failed_at) >= breaker.threshold:
        return replace(
            breaker, state="open", failed_at=failed_at, opened_at=now, probe_at=now + breaker.open_for,
            cause=news.cause, probes=0,
        )  # fmt: skip
    return replace(breaker, failed_at=failed_at)


def with_probe(breaker: Breaker, *, now: datetime) -> Breaker:
    """With the probe that is due taken; unchanged where none is.

    None is further away than `open_for`, unless the clock went back: then it is due, or nobody would ask until the clock
    is there again.
    """
    if breaker.state == "closed" or breaker.probe_at is None:
        return breaker
    if now < breaker.probe_at <= now + breaker.open_for:
        return breaker
    return replace(breaker, state="half_open", probe_at=now + breaker.open_for, probes=breaker.probes + 1)


def after_probe(breaker: Breaker, outcome: Outcome | SentAll, *, now: datetime) -> Breaker:
    """Once a probe has its outcome. Any answer but one that says "ill" closes it: the provider is there."""
    if breaker.state == "closed":
        return breaker
    failure = illness(outcome)
    if failure is None:
        return closed(breaker)
    return replace(breaker, state="open", probe_at=now + breaker.open_for, cause=_cause(failure))


def without_probe(breaker: Breaker, number: int, *, now: datetime, due_in: timedelta = SOON) -> Breaker:
    """With a probe given back that asked for nothing: another may try soon, unless the next was taken meanwhile."""
    if breaker.state != "half_open" or breaker.probes != number:
        return breaker
    return replace(
        breaker, state="open", probe_at=now + min(due_in, breaker.open_for), probes=breaker.probes - 1
    )


def closed(breaker: Breaker) -> Breaker:
    """Closed, with nothing held against the provider."""
    return replace(breaker, state="closed", failed_at=(), opened_at=None, probe_at=None, cause=None, probes=0)


def _cause(failure: Failure) -> str:
    status = f"HTTP {failure.status}: " if failure.status else ""
    return f"{status}{failure.message}"[:LONGEST]
