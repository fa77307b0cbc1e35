"""What can come of one attempt at one email: a closed set.

Gates and senders return the same type; settling does not know who decided. An outcome states what happened;
what follows from it (try again, give up) is `core/retry.py`'s decision.

    accepted?   outcome
    yes         Sent (SentAll for the members of a batch)
    no          Throttled, Paused, Failed (may heal), Rejected (never will)
    perhaps     Ambiguous (ask again under the same key), Unresolvable (never ask again)
    not asked   Cancelled, Expired, Returned, Parked, Suppressed, Limited, Ended
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Reason = Literal["key", "domain", "daily_quota", "monthly_quota", "blocked", "message_errors", "refused"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not end as sent.

    `kind` is our class of error (`message`, `transient`, `throttle`, `pause`, `bug`, `ambiguous`, `crash_limit`,
    `payload_missing`, …); `name` and `status` are the provider's (its error name, the HTTP status), if it answered.
    `message` is one line, `excerpt` at most 2,000 characters of the answer's body; both are storable in Postgres
    (no NUL, no lone surrogate). `stack` is set for exceptions of ours only. `code` is the short name of what went
    wrong on our side of the answer: an errno or look-up error, a reason of TLS, the class of an exception of ours.
    """

    kind: str
    message: str
    name: str | None = None
    status: int | None = None
    excerpt: str | None = None
    stack: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider accepted the email under this id."""

    provider_id: str


@dataclass(frozen=True, slots=True)
class SentAll:
    """The provider accepted a batch: one id per member, in the order of the request."""

    provider_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """Definitely not accepted; another attempt may succeed. Burns an attempt.

    `transient` is False where the provider said no in words we do not know: such a failure keeps its email out of
    the slow phase, and one under an error's name (`failure.name`) that comes after another such no ends it. `after` is
    the least delay that the provider asked for.
    """

    failure: Failure
    after: timedelta | None = None
    transient: bool = True

    @property
    def in_unknown_words(self) -> bool:
        """Whether the provider said no under an error's name that we do not know."""
        return not self.transient and self.failure.name is not None


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """May have been accepted. Ask again only with the same key and bytes, within the key's life. Burns an attempt."""

    failure: Failure
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """Definitely not accepted: too many requests. Nobody asks before `after`; burns nothing."""

    failure: Failure
    after: timedelta


@dataclass(frozen=True, slots=True)
class Paused:
    """Definitely not accepted, and no other email would be: the account, domain or key is at fault. Burns nothing.

    `reason` decides how long the pause is and how it is probed.
    """

    failure: Failure
    scope: Literal["account", "domain"] = "account"
    reason: Reason = "refused"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Definitely not accepted, and never will be: this email is at fault, or our code is (`failure.kind` "bug")."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Unresolvable:
    """May have been accepted, and asking again could not tell: ends as `unknown`."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The application took it back before it was asked."""


@dataclass(frozen=True, slots=True)
class Expired:
    """Its `expires_at` passed before it was asked."""


@dataclass(frozen=True, slots=True)
class Returned:
    """Handed back without having been asked: shutdown, or a lease that ran short. Burns nothing."""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Whoever it is for does not want it: none of its `to` may be sent to."""

    reason: str
    scope: str


@dataclass(frozen=True, slots=True)
class Limited:
    """A limit holds it until `free_at` at least, by the database's clock. Keeps attempts and place; burns nothing."""

    kind: str
    key: str
    free_at: datetime


@dataclass(frozen=True, slots=True)
class Parked:
    """What it belongs to is paused: it waits in that thing's lane, keeping its place there. Burns nothing."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class Ended:
    """It has an outcome already; this lease of it was one too many."""


Outcome = (
    Sent
    | Failed
    | Ambiguous
    | Throttled
    | Paused
    | Rejected
    | Unresolvable
    | Cancelled
    | Expired
    | Returned
    | Parked
    | Suppressed
    | Limited
    | Ended
)
