"""One claimed email, as the path carries it from claim to settle."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from outboxd.core.limits import Needs


@dataclass(frozen=True, slots=True)
class Frozen:
    """Everything besides the stored payload that the request's bytes and destination depend on.

    Resolved once, stored with the lease and then with the email, and never resolved again while the key may be
    remembered: a changed configuration or a newer serialiser must not change bytes under a key.
    """

    serialiser: int
    tag: str
    account: str
    api_url: str
    removed: tuple[str, ...] = ()  # normalised addresses that were taken out, because they are suppressed


@dataclass(slots=True)
class Grant:
    """What limits granted to one email for the ask that is to come: the instant, None before. It moves when asked again.

    `needs` are the shares that were taken then: those of the limits of that time, whatever the limits are now.
    """

    at: datetime | None = None
    needs: Needs | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """An email in a lease of ours. Instants are the database's clock; `payload` is the stored JSON as text.

    `payload` is None where the row is gone. `sender` is its `from`; `alone` tells that it may share no request, by its
    attachments or the provider's own schedule. `attempts` counts failed asks that burned one; `first_asked_at` and
    `ambiguous` tell about earlier asks under the same key. `accepted_as` is the provider's id from evidence that
    came too late for its own lease; `ended` tells that the email has an outcome already and must not be asked.
    """

    id: int
    uid: UUID
    lease_id: UUID
    queue_id: int
    queue: str
    type: str
    lane: int
    priority: int
    scheduled_at: datetime
    claimed_at: datetime
    payload: str | None
    expires_at: datetime | None
    max_attempts: int | None
    trace: str | None
    sender: str | None
    alone: bool
    attempts: int
    crash_streak: int
    first_asked_at: datetime | None
    first_failed_at: datetime | None
    ambiguous: bool
    transient: bool
    cancelled: bool
    accepted_as: str | None
    ended: bool
    generation: int
    frozen: Frozen
    tenant: str = ""
    campaign: str | None = None
    recipients: tuple[str, ...] = ()
    suppressed: tuple[tuple[str, str, str], ...] = ()  # address, reason, scope
    grant: Grant = field(default_factory=Grant, compare=False)  # one for all copies of what one claim brought
