"""Whether a claimed parcel may be asked for: answered for a whole claim, and again for all in hand each second.

What stands here needs no more than what the claim brought: the email's own row, who of its recipients is suppressed,
and the pauses that were active with it. Gates that ask Postgres again stand in `admission`; settle does not know who
decided.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from outboxd.core.address import sender_domain
from outboxd.core.batch import Batch, Parcel, accepted
from outboxd.core.email import Claimed, Frozen
from outboxd.core.outcome import (
    Cancelled,
    Ended,
    Expired,
    Failure,
    Outcome,
    Parked,
    Rejected,
    Returned,
    Sent,
    SentAll,
    Suppressed,
    Unresolvable,
)
from outboxd.core.provider import Provider
from outboxd.core.recipients import NobodyLeft, review
from outboxd.core.retry import KEY_LIFE, key_has_expired
from outboxd.db.pause import Paused, Probe

ProviderOf = Callable[[str], Provider]


def itself(domain: str) -> Provider:
    """A domain as a provider of its own, for who has no pauses to look at."""
    return Provider(domain, domain)


@dataclass(frozen=True, slots=True)
class Stopped:
    """A parcel that may not go, and why. `members` is for a batch that is taken apart: each one's own outcome."""

    outcome: Outcome | SentAll
    members: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class Shut:
    """What must not be asked for: the pauses, where this daemon asks, and which mailbox provider a domain has."""

    home: Frozen
    paused: Paused
    provider_of: ProviderOf


def closed_to(probe: Probe | None, paused: Paused) -> Paused:
    """What is closed to a parcel: a probe goes in spite of its own pause, and an account's in spite of the breaker."""
    if probe is None:
        return paused
    passed = {(probe.kind, probe.key), *([("breaker", probe.key)] if probe.kind == "account" else [])}
    return paused - passed


def stays(outcome: Outcome | SentAll, members: tuple[Outcome, ...]) -> bool:
    """Whether what was stopped stands where it stood, once it is settled: not ended, set aside or taken apart."""
    return isinstance(outcome, Returned) and not members


def judge(
    parcel: Parcel,
    home: Frozen,
    paused: Paused,
    *,
    now: datetime,
    provider_of: ProviderOf = itself,
    probe: Probe | None = None,
) -> Stopped | None:
    """None where it may go. `home` is where this daemon asks; a probe goes in spite of what it asks about."""
    shut = Shut(home, closed_to(probe, paused), provider_of)
    if parcel.batch is not None:
        return _judge_batch(parcel, parcel.batch, shut, now=now)
    email = parcel.first
    outcome = held_by(email, now=now) or _away(email, home) or _closed(email, shut)
    return None if outcome is None else Stopped(outcome)


def _judge_batch(parcel: Parcel, batch: Batch, shut: Shut, *, now: datetime) -> Stopped | None:
    """A batch with an open answer is finished unchanged, whatever became of its members; any other is taken apart."""
    if (evidence := accepted(parcel)) is not None:
        return Stopped(evidence)
    closed = next(
        (found for email in parcel.emails if (found := _closed(email, shut, whole=batch.ambiguous))), None
    )
    if batch.ambiguous:
        if (batch.frozen.account, batch.frozen.api_url) != (shut.home.account, shut.home.api_url):
            return Stopped(
                Unresolvable(Failure("account_changed", "an ask at another account is still open"))
            )
        if batch.first_asked_at is not None and now >= batch.first_asked_at + KEY_LIFE:
            return Stopped(Unresolvable(Failure("key_expired", "an ask of 23 hours ago is still open")))
        return None if closed is None else Stopped(closed)
    verdicts = [_member(email, shut, now=now) for email in parcel.emails]
    if any(verdicts):
        return Stopped(Returned(), tuple(verdict or Returned() for verdict in verdicts))
    return None


def _member(email: Claimed, shut: Shut, *, now: datetime) -> Outcome | None:
    """What stops one member of a batch that may be taken apart; one with news of its recipients is packed anew."""
    verdict = held_by(email, now=now) or _closed(email, shut)
    return verdict or (Returned() if email.suppressed else None)


def held_by(email: Claimed, *, now: datetime) -> Outcome | None:
    """The first gate of its own that stops it, in the order of certainty; None where it may go."""
    if email.ended:
        return Ended()
    if email.accepted_as is not None:
        return Sent(email.accepted_as)
    if email.payload is None:
        return Rejected(Failure("payload_missing", "the email's row is gone"))
    if email.cancelled:
        return Cancelled()
    if email.expires_at is not None and email.expires_at <= now:
        return Expired()
    if email.suppressed and (refusal := _unwanted(email)) is not None:
        return refusal
    if key_has_expired(email, now=now):
        return Unresolvable(Failure("key_expired", "an ask of 23 hours ago is still open"))
    return None


def _unwanted(email: Claimed) -> Outcome | None:
    """Nobody is left to send to; or somebody else said no since an ask whose answer is open; or it cannot be read."""
    try:
        verdict = review(json.loads(email.payload or "{}"), {address for address, _, _ in email.suppressed})
    except Exception as error:  # noqa: BLE001 - whatever an email does to who reads it stays that email's fault
        text = f"{type(error).__name__}: {error}"[:500]
        return Rejected(Failure("message", text, code=type(error).__name__))
    _, reason, scope = email.suppressed[0]
    if isinstance(verdict, NobodyLeft):
        return Suppressed(reason, scope)
    news = set(verdict.removed) - set(email.frozen.removed)
    return Suppressed(reason, scope) if email.ambiguous and news else None


def news(email: Claimed, suppressed: Mapping[int, Collection[str]]) -> bool:
    """Whether somebody said no since the claim: these addresses are suppressed now, by email."""
    return not set(suppressed.get(email.id, ())) <= set(email.frozen.removed)


def cancel(parcel: Parcel, ids: Iterable[int]) -> Parcel:
    """The same parcel with the word of cancel on these emails."""
    taken_back = set(ids)
    if not taken_back:
        return parcel
    emails = tuple(
        replace(email, cancelled=True) if email.id in taken_back else email for email in parcel.emails
    )
    return replace(parcel, emails=emails)


def _away(email: Claimed, home: Frozen) -> Outcome | None:
    """An open answer can be asked about only where the first ask went: keys are remembered per account."""
    asked_at = (email.frozen.account, email.frozen.api_url)
    if email.ambiguous and asked_at != (home.account, home.api_url):
        return Unresolvable(Failure("account_changed", "an ask at another account is still open"))
    return None


def _closed(email: Claimed, shut: Shut, *, whole: bool = False) -> Outcome | None:
    """What it belongs to is paused: back to its place, or into the lane of what is paused. `whole`: nobody is taken out."""
    paused = shut.paused
    if not paused:
        return None
    account = shut.home.account
    if not paused.isdisjoint((("account", account), ("breaker", account), ("queue", email.queue))):
        return Returned()
    for kind, key in (
        ("domain", sender_domain(email.sender)),
        ("type", email.type),
        ("campaign", email.campaign),
    ):
        if key and (kind, key) in paused:
            return Parked(kind, key)
    if any(kind == "provider" for kind, _ in paused):
        return _closed_provider(email, shut, whole=whole)
    return None


def _closed_provider(email: Claimed, shut: Shut, *, whole: bool) -> Outcome | None:
    """Some recipient's mailbox is at a paused provider, listed there or by its domain's exchangers.

    Who said no is taken out before the email goes, and holds it up no more; once it was asked for, for good.
    """
    out = set(email.frozen.removed) if email.first_asked_at is not None else set()
    if email.suppressed and not whole:
        out |= {address for address, _, _ in email.suppressed}
    left = (address for address in email.recipients if address not in out)
    for domain in dict.fromkeys(address.rpartition("@")[2] for address in left):
        provider = shut.provider_of(domain)
        for name in (provider.name, provider.shaped_by):
            if ("provider", name) in shut.paused:
                return Parked("provider", name)
    return None
