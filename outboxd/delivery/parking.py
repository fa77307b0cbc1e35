"""A crowd: most of a claim was refused for one thing that is closed, so what waits behind it is parked in bulk.

Settling parks what was claimed and refused. That is a few hundred emails at a time, each leased and put back, while
others wait behind a million of them; here thousands move into a lane between two claims, each row touched once.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from outboxd.core.batch import Parcel
from outboxd.core.outcome import Limited, Parked
from outboxd.core.retry import LANE_OF_LIMIT
from outboxd.db import parking, pause
from outboxd.db.lease import Slot
from outboxd.db.session import Connection
from outboxd.delivery.gates import ProviderOf, Stopped

CHUNK: Final = (
    1_000  # rows that one transaction looks at: another daemon's claim skips those that it has locked
)
CHUNKS: Final = 10  # between two claims
FEW: Final = 10  # emails of a claim that are no crowd
IN_BULK: Final = ("campaign", "provider", "type")  # pauses whose emails can be told in SQL

Place = tuple[str, str, Slot]


@dataclass(frozen=True, slots=True)
class Crowd:
    """What a slot is crowded by, and how far its emails there have been looked for.

    `until`: when the limit that closed it opens; None where it is paused, which exempts no type.
    """

    kind: str
    key: str
    until: datetime | None
    slot: Slot


def crowd(refused: Iterable[tuple[Parcel, Stopped]], of: int, *, provider_of: ProviderOf) -> Crowd | None:
    """What at least half of `of` parcels of one slot were refused for."""
    found: dict[Place, datetime | None] = {}
    sizes: Counter[Place] = Counter()
    for parcel, stopped in refused:
        closed, email = _closed(parcel, stopped, provider_of), parcel.first
        if closed is not None and email.lane >= 0:
            kind, key, until = closed
            place = (kind, key, Slot(email.queue_id, email.lane, email.priority))
            sizes[place] += 1
            found[place] = max(filter(None, (until, found.get(place))), default=None)
    for (kind, key, slot), size in sizes.most_common(1):
        if size >= FEW and 2 * size >= of:
            return Crowd(kind, key, found[kind, key, slot], slot)
    return None


def _closed(
    parcel: Parcel, stopped: Stopped, provider_of: ProviderOf
) -> tuple[str, str, datetime | None] | None:
    """What holds it and others like it; a provider only where the first recipient's domain tells, as in `park.sql`."""
    match stopped.outcome:
        case Limited(kind, key, free_at) if kind in LANE_OF_LIMIT:
            return LANE_OF_LIMIT[kind], key, free_at
        case Parked("provider", key) if key != provider_of(_first_domain(parcel)).name:
            return None
        case Parked(kind, key) if kind in IN_BULK:
            return kind, key, None
        case _:
            return None


def _first_domain(parcel: Parcel) -> str:
    return next((address.rpartition("@")[2] for address in parcel.first.recipients), "")


def park(conn: Connection, found: Crowd) -> Crowd | None:
    """Park the next of them; where to go on, or None where the slot has been looked through."""
    lane = pause.lane(conn, found.kind, found.key, closed_until=found.until)
    slot = found.slot
    if lane == slot.lane:
        return None
    paused = found.until is None
    for _ in range(CHUNKS):
        seen, after_at, after_id = parking.park(
            conn, slot, found.key, lane, limit=CHUNK, kind=found.kind, paused=paused
        )
        if seen < CHUNK:
            return None
        slot = replace(slot, after_at=after_at, after_id=after_id)
    return replace(found, slot=slot)
