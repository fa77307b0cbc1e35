"""How long a pause lasts and how it is probed, and when equal message errors are an account's fault. Pure.

A probe is one email, asked while everything else waits. Reasons and waits follow Resend's documentation: a daily
quota begins anew at 00:00 UTC, a monthly one at a date it does not tell, and a key or a domain when a person mends it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from outboxd.core.outcome import Reason

PROBE_EVERY: Final[dict[Reason, timedelta]] = {
    "key": timedelta(minutes=1),
    "domain": timedelta(minutes=5),
    "monthly_quota": timedelta(hours=1),
    "blocked": timedelta(minutes=2),
    "message_errors": timedelta(seconds=15),
    "refused": timedelta(minutes=1),
}
AFTER_MIDNIGHT: Final = timedelta(seconds=5)  # for clocks that differ,
JITTER: Final = timedelta(seconds=25)  # and so that a fleet does not wake at once
MIDNIGHT_LASTS: Final = timedelta(minutes=5)  # in which a refusal may still be about the day before
ENOUGH: Final = 5  # equal message errors of different emails in a row
ACQUITTED: Final = 20  # signatures that are remembered as the emails' own fault


@dataclass(frozen=True, slots=True)
class Plan:
    """How long it lasts (None: until a probe succeeds or a person resumes) and how often it is probed (None: never)."""

    lasts: timedelta | None
    probe_every: timedelta | None


def plan(reason: Reason, *, now: datetime, draw: Callable[[], float]) -> Plan:
    """The plan for a pause that begins at `now`, the database's clock."""
    if reason == "daily_quota":
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if now < midnight + MIDNIGHT_LASTS:
            return Plan(MIDNIGHT_LASTS, None)
        return Plan(midnight + timedelta(days=1) - now + AFTER_MIDNIGHT + JITTER * draw(), None)
    return Plan(None, PROBE_EVERY[reason])


@dataclass(frozen=True, slots=True)
class Streak:
    """Message errors in a row, equal in their signature. Those of one email, or of parts of one batch, count once."""

    signature: str = ""
    emails: tuple[frozenset[int], ...] = ()
    acquitted: tuple[str, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether so many different emails failed alike that the account is taken to be at fault."""
        return len(self.emails) >= ENOUGH and self.signature not in self.acquitted


def after_error(streak: Streak, signature: str, emails: frozenset[int]) -> Streak:
    """One more message error of these emails."""
    if signature != streak.signature:
        return Streak(signature, (emails,), streak.acquitted)
    if len(streak.emails) >= ENOUGH or any(emails & known for known in streak.emails):
        return streak
    return Streak(signature, (*streak.emails, emails), streak.acquitted)


def after_success(streak: Streak) -> Streak:
    """An email was accepted: if the account was suspected, the errors were the emails' own after all."""
    if streak.enough:
        return Streak(acquitted=(*streak.acquitted, streak.signature)[-ACQUITTED:])
    return Streak(acquitted=streak.acquitted)
