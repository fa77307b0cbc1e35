"""What follows from an outcome: ask again, and when, or end. Pure.

Two phases. The fast one counts attempts, with exponential backoff, full jitter and a cap of 32 × base, or a fixed
pause. Where every failure was transient, the slow one goes on at the cap's pace, after a fixed pause too, until the
queue's `give_up_after` since the first failure, so that an outage kills no email. An application's own
`max_attempts` is a plain count. What is refused in unknown words, and then under an error's name that we do not know,
ends: one more try, not the policy's count.

An email that may have been accepted is asked again only within `KEY_LIFE` of its first ask and never ends as dead.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

from outboxd.core.address import sender_domain
from outboxd.core.email import Claimed
from outboxd.core.outcome import (
    Ambiguous,
    Cancelled,
    Ended,
    Expired,
    Failed,
    Failure,
    Limited,
    Outcome,
    Parked,
    Paused,
    Rejected,
    Returned,
    Sent,
    Suppressed,
    Throttled,
    Unresolvable,
)
from outboxd.core.signature import signature

KEY_LIFE: Final = timedelta(
    hours=23
)  # Resend remembers a key for 24 h; one hour is left for differing clocks
CAP: Final = 32  # times the base
AT_ONCE: Final = timedelta(0)
MOST_ATTEMPTS: Final = 32_766  # counted; a smallint, less the one that a reclaim adds to an acceptance
SUSPECT: Final = timedelta(
    seconds=60
)  # for an email whose own error looks like its account's: others probe first

QUOTAS: Final = ("account_day", "account_month")
LANE_OF_LIMIT: Final = {  # whose lane an email waits in that a limit holds; a mailbox has none
    "provider_minute": "provider",
    "provider_day": "provider",
    "campaign": "campaign",
    "tenant": "tenant",
    "type": "type",
    "queue": "queue",
}

RETRIES: Final = ("retries", "")  # kind and key of the lane of what was asked for before

StepName = Literal["sent", "suppressed", "cancelled", "expired", "again", "kept", "dead", "unknown", "drop"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How failures of one email are retried: its type's values, else its queue's. `batch`: it may share a request."""

    max_attempts: int
    backoff: Literal["exponential", "fixed"]
    base: timedelta
    give_up_after: timedelta
    batch: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """What settle writes. `attempts`, `ambiguous` and `transient` are the email's new totals.

    `kept` is for a member of a batch: again, but with its batch, whose totals these are; `rejected` marks that batch
    as one to be split. `park` names the thing in whose lane the email waits, `free_at` until when a limit
    closes that lane. `keeps_place`: nobody was asked, so it waits where it stood, as if it had not been claimed.
    """

    name: StepName
    attempts: int
    ambiguous: bool
    transient: bool = True
    due_in: timedelta = AT_ONCE
    provider_id: str | None = None
    failure: Failure | None = None
    rejected: bool = False
    park: tuple[str, str] | None = None
    free_at: datetime | None = None
    keeps_place: bool = False

    def __post_init__(self) -> None:
        """Counting ends before the column does: an email that no settle could store would be asked for ever."""
        if self.attempts > MOST_ATTEMPTS:
            object.__setattr__(self, "attempts", MOST_ATTEMPTS)

    def failure_json(self) -> str | None:
        """The failure as JSON for the history, or None."""
        if self.failure is None:
            return None
        return json.dumps({**asdict(self.failure), "signature": signature(self.failure)})


def decide(
    outcome: Outcome, email: Claimed, policy: Policy, *, now: datetime, draw: Callable[[], float]
) -> Step:
    """The step that follows. `now` is the database's clock, `draw` gives numbers in [0, 1) for the jitter."""
    match outcome:
        case Sent(provider_id):
            return Step("sent", email.attempts + 1, email.ambiguous, provider_id=provider_id)
        case Ended():
            return Step("drop", email.attempts, email.ambiguous)
        case Returned():
            return _unasked(email)
        case Throttled(failure, after):
            return _unburned(email, failure, after + timedelta(seconds=draw() * 0.1))
        case Paused(failure, scope, reason):
            step = _unburned(email, failure, SUSPECT if reason == "message_errors" else AT_ONCE)
            return replace(step, park=("domain", sender_domain(email.sender)) if scope == "domain" else None)
        case Parked() | Limited():
            return _set_aside(outcome, email, now)
        case Cancelled() | Expired() | Suppressed():
            return _not_asked(outcome, email)
        case Rejected(failure):
            return _end(email, failure, ambiguous=email.ambiguous, burn=1)
        case Unresolvable(failure):
            return _end(email, failure, ambiguous=True, burn=0)
        case Failed(failure, after, transient):
            step = _after_failure(email, failure, policy, now, draw, after=after, transient=transient)
            return _beside_fresh(email, step)
        case Ambiguous(failure, after):
            step = _after_failure(email, failure, policy, now, draw, after=after, ambiguous=True)
            return _beside_fresh(email, step)
        case _:
            assert_never(outcome)


def decide_probe(
    outcome: Outcome, email: Claimed, policy: Policy, *, now: datetime, draw: Callable[[], float]
) -> Step:
    """The same for an email that was asked as a probe: its failure burns nothing and ends nothing; it waits on."""
    match outcome:
        case Failed(failure, after, transient=True):
            return _unburned(email, failure, after or AT_ONCE)
        case Failed(failure, after) if (
            outcome.in_unknown_words
        ):  # of the account, it may be; another email probes next
            return _unburned(email, failure, after or SUSPECT)
        case Ambiguous(failure, after):
            return replace(_unburned(email, failure, after or AT_ONCE), ambiguous=True)
        case _:
            return decide(outcome, email, policy, now=now, draw=draw)


def key_has_expired(email: Claimed, *, now: datetime) -> bool:
    """Whether asking again could be a second email: an open answer older than the provider's memory of the key."""
    return email.ambiguous and email.first_asked_at is not None and now >= email.first_asked_at + KEY_LIFE


def backoff(policy: Policy, attempts: int, *, draw: Callable[[], float]) -> timedelta:
    """The pause before the next attempt, after `attempts` (≥ 1) failed ones.

    In the slow phase half of it is jitter, whatever the backoff: what an outage made fail together spreads out.
    """
    if attempts >= policy.max_attempts:
        return policy.base * (CAP * (0.5 + 0.5 * draw()))
    if policy.backoff == "fixed":
        return policy.base
    return policy.base * (float(min(2 ** (attempts - 1), CAP)) * draw())


def _after_failure(
    email: Claimed,
    failure: Failure,
    policy: Policy,
    now: datetime,
    draw: Callable[[], float],
    *,
    after: timedelta | None,
    transient: bool = True,
    ambiguous: bool = False,
) -> Step:
    attempts = email.attempts + 1
    refused_again = not transient and _may_not_be_refused_again(email, failure)
    transient = transient and email.transient
    ambiguous = ambiguous or email.ambiguous
    counted = policy if email.max_attempts is None else replace(policy, max_attempts=email.max_attempts)
    delay = max(backoff(counted, attempts, draw=draw), after or AT_ONCE)
    if refused_again or _exhausted(
        email, policy, attempts, transient=transient, next_at=now + delay, now=now
    ):
        return _end(email, failure, ambiguous=ambiguous, burn=1)
    return Step("again", attempts, ambiguous, transient, delay, failure=failure)


def _beside_fresh(email: Claimed, step: Step) -> Step:
    """What is asked again takes turns with fresh mail, in a lane of its own unless it has one: neither holds the other up."""
    return replace(step, park=RETRIES) if step.name == "again" and email.lane <= 0 else step


def _may_not_be_refused_again(email: Claimed, failure: Failure) -> bool:
    """Whether a no in unknown words came before, and this one has an error's name (Resend's errors, the last row).

    Without a name it is no error of the provider's: a redirect or a page of whoever is in between, which may go away.
    """
    return failure.name is not None and not email.transient


def _exhausted(
    email: Claimed, policy: Policy, attempts: int, *, transient: bool, next_at: datetime, now: datetime
) -> bool:
    if email.max_attempts is not None:
        return attempts >= email.max_attempts
    if attempts < policy.max_attempts:
        return False
    return not transient or next_at > (email.first_failed_at or now) + policy.give_up_after


def _unasked(email: Claimed) -> Step:
    return Step("again", email.attempts, email.ambiguous, email.transient, keeps_place=True)


def _unburned(email: Claimed, failure: Failure, after: timedelta) -> Step:
    return Step("again", email.attempts, email.ambiguous, email.transient, after, failure=failure)


def _set_aside(outcome: Parked | Limited, email: Claimed, now: datetime) -> Step:
    """Into the lane of what holds it, where it keeps its place; a limit of no lane names the time instead.

    So does a quota for what has an open answer: another account, which has quota, could not ask for it again.
    """
    step = _unasked(email)
    if isinstance(outcome, Parked):
        return (
            replace(step, park=(outcome.kind, outcome.key))
            if email.lane >= 0
            else replace(step, due_in=SUSPECT, keeps_place=False)
        )
    park = lane_of_limit(outcome, email)
    if park is not None and email.lane >= 0 and not (email.ambiguous and outcome.kind in QUOTAS):
        return replace(step, park=park, free_at=outcome.free_at)
    return replace(step, due_in=max(outcome.free_at - now, AT_ONCE), keeps_place=False)


def lane_of_limit(limited: Limited, email: Claimed) -> tuple[str, str] | None:
    """Kind and key of the lane in which an email waits that a limit holds; None where it has none."""
    if limited.kind in QUOTAS:  # by queue: critical ones are free at another time
        return "quota", f"{limited.key}/{email.queue}"
    kind = LANE_OF_LIMIT.get(limited.kind)
    return None if kind is None else (kind, limited.key)


def _not_asked(outcome: Cancelled | Expired | Suppressed, email: Claimed) -> Step:
    name, message = _why_not_asked(outcome)
    if email.ambiguous:
        return _end(email, Failure(name, f"{message}, but an earlier ask is open"), ambiguous=True, burn=0)
    return Step(name, email.attempts, ambiguous=False, failure=_reason(outcome))


def _why_not_asked(
    outcome: Cancelled | Expired | Suppressed,
) -> tuple[Literal["cancelled", "expired", "suppressed"], str]:
    match outcome:
        case Cancelled():
            return "cancelled", "taken back"
        case Expired():
            return "expired", "expires_at has passed"
        case Suppressed(reason, scope):
            return "suppressed", f"{reason} ({scope})"


def _reason(outcome: Cancelled | Expired | Suppressed) -> Failure | None:
    return (
        Failure("suppressed", f"{outcome.reason} ({outcome.scope})")
        if isinstance(outcome, Suppressed)
        else None
    )


def _end(email: Claimed, failure: Failure, *, ambiguous: bool, burn: int) -> Step:
    name: StepName = "unknown" if ambiguous else "dead"
    return Step(name, email.attempts + burn, ambiguous, email.transient, failure=failure)
