"""A crowd: most of a claim was refused by one mailbox provider, so what waits behind it is parked in bulk.

Settling parks what was claimed. That is a few hundred emails at a time, each leased and put back, while others wait
behind a million of them; here thousands move into the provider's lane in one statement, each row touched once.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from outboxd.core.batch import Parcel
from outboxd.core.outcome import Limited
from outboxd.core.retry import PROVIDER_LIMITS
from outboxd.db import lease, pause
from outboxd.db.lease import Slot
from outboxd.db.session import Connection
from outboxd.delivery.gates import Stopped

MOST: Final = 10_000  # rows that one statement looks at
FEW: Final = 10  # emails of a claim that are no crowd


@dataclass(frozen=True, slots=True)
class Crowd:
    """The provider that closed until `until`, and how far its emails in the slot have been looked for."""

    key: str
    until: datetime
    slot: Slot


def crowd(held: Iterable[tuple[Parcel, Stopped]], of: int) -> Crowd | None:
    """The provider and slot by which at least half of `of` parcels were refused, outside every lane."""
    found: dict[tuple[str, Slot], datetime] = {}
    sizes: Counter[tuple[str, Slot]] = Counter()
    for parcel, stopped in held:
        outcome, email = stopped.outcome, parcel.first
        if isinstance(outcome, Limited) and outcome.kind in PROVIDER_LIMITS and email.lane == 0:
            place = (outcome.key, Slot(email.queue_id, 0, email.priority))
            sizes[place] += 1
            found[place] = max(outcome.free_at, found.get(place, outcome.free_at))
    for (key, slot), size in sizes.most_common(1):
        if size >= FEW and 2 * size >= of:
            return Crowd(key, found[key, slot], slot)
    return None


def park(conn: Connection, found: Crowd) -> Crowd | None:
    """Park the next of them; where to go on, or None where the slot has been looked through."""
    lane = pause.lane(conn, "provider", found.key, closed_until=found.until)
    seen, after_at, after_id = lease.park(conn, found.slot, found.key, lane, limit=MOST)
    if seen < MOST:
        return None
    return replace(found, slot=replace(found.slot, after_at=after_at, after_id=after_id))
