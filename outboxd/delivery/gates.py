"""Whether a claimed email may be asked for: answered for a whole batch, in the claim's wake.

What stands here now needs no more than the claim's own row. Gates that ask Postgres (suppression, limits, breaker)
join `judge`, and settle does not know who decided.
"""

from collections.abc import Iterable
from datetime import datetime

from outboxd.core.email import Claimed, Frozen
from outboxd.core.outcome import Cancelled, Ended, Expired, Failure, Outcome, Rejected, Sent, Unresolvable
from outboxd.core.retry import key_has_expired


def judge(emails: Iterable[Claimed], home: Frozen) -> tuple[list[Claimed], list[tuple[Claimed, Outcome]]]:
    """Those that may go, and those that may not with their outcome. `home` is where this daemon asks."""
    go: list[Claimed] = []
    stop: list[tuple[Claimed, Outcome]] = []
    for email in emails:
        verdict = held_by(email, now=email.claimed_at) or _away(email, home)
        if verdict is None:
            go.append(email)
        else:
            stop.append((email, verdict))
    return go, stop


def held_by(email: Claimed, *, now: datetime) -> Outcome | None:
    """The first gate that stops it, in the order of certainty; None where it may go."""
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
    if key_has_expired(email, now=now):
        return Unresolvable(Failure("key_expired", "an ask of 23 hours ago is still open"))
    return None


def _away(email: Claimed, home: Frozen) -> Outcome | None:
    """An open answer can be asked about only where the first ask went: keys are remembered per account."""
    asked_at = (email.frozen.account, email.frozen.api_url)
    if email.ambiguous and asked_at != (home.account, home.api_url):
        return Unresolvable(Failure("account_changed", "an ask at another account is still open"))
    return None
