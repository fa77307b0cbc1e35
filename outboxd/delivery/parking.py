"""A crowd: most of a claim was refused for one thing that is closed, so what waits behind it is parked in bulk.

Settling parks what was claimed and refused. That is a few hundred emails at a time, each leased and put back, while
others wait behind a million of them. Here the others are pulled out first, then the crowd moves into its lane at leisure,
each row touched once.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from outboxd.core.batch import Parcel
from outboxd.core.outcome import Limited, Parked
from outboxd.core.retry import lane_of_limit
from outboxd.db import parking, pause
from outboxd.db.lease import Slot
from outboxd.db.session import Connection
from outboxd.delivery.gates import ProviderOf, Stopped

LOOK: Final = 10_000  # rows that one transaction looks through for others
MIXED: Final = 0.25  # of those: where that many are others it is no crowd to pull them out of
LEISURE: Final = (1, 100)  # transactions of a step, and rows that each moves: claims hardly feel them
HASTE: Final = (10, 1_000)  # the same where others wait in the crowd; a claim skips what is locked
COMMITTED: Final = timedelta(seconds=10)  # how long ago what is committed now may have been inserted
SETTLED: Final = 2.0  # seconds until most of that is
REST: Final = 3.0  # times as long as a step took, where nobody waits
FEW: Final = 10  # emails of a claim that are no crowd
IN_BULK: Final = ("campaign", "provider", "type")  # pauses whose emails can be told in SQL
OTHERS: Final = ("others", "")  # kind and key of the lane of what stood in a crowd and is not of it

Place = tuple[str, str, Slot]


@dataclass(frozen=True, slots=True)
class Crowd:
    """What a slot is crowded by, and how far it has been looked through.

    `until`: when the limit that closed it opens; None where it is paused, which exempts no type. `behind` is where
    claims go on meanwhile: past the crowd once the others are out of it, from its head where they stay in it; None
    until that is known. The next step is due at `due`, by `time.monotonic`; `lane` is the crowd's, once it is known;
    `looks_again`: for who was committed meanwhile; `went_back` is the last row that was found behind the mover.
    """

    kind: str
    key: str
    until: datetime | None
    slot: Slot
    behind: Slot | None = None
    due: float = 0.0
    lane: int = 0
    looks_again: bool = False
    went_back: Slot | None = None

    def head(self) -> Slot:
        """The slot, from its first row."""
        return Slot(self.slot.queue, self.slot.lane, self.slot.priority)

    def is_at(self, slot: Slot) -> bool:
        """Whether this is the slot that is crowded."""
        return (slot.queue, slot.lane, slot.priority) == (self.slot.queue, self.slot.lane, self.slot.priority)

    def passes(self, slot: Slot) -> bool:
        """Whether that is where claims go on, or beyond."""
        return self.behind is not None and slot.watermark() >= self.behind.watermark()

    def is_open(self) -> bool:
        """Whether claims go on there: the others are out of it, or cannot be pulled out."""
        return self.behind is not None or self.slot.lane != 0

    def is_left(self) -> bool:
        """Whether the others are out of it: claims go on behind it, and it is moved at leisure."""
        return self.behind is not None and self.behind != self.head()

    def again_from(self, first: Slot) -> "Crowd":
        """The same, to be moved on from the slot's first row where that was put back after the mover had passed it.

        Once for each such row: somebody may have it locked, and the walk to where the mover was may be long.
        """
        put_back = first.watermark() < self.slot.watermark() and first != self.went_back
        if not put_back or not self.is_left() or self.looks_again:
            return self
        return replace(self, slot=first, went_back=first)


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
    closed: tuple[str, str, datetime | None]
    match stopped.outcome:
        case Limited() as limited if (lane := lane_of_limit(limited, parcel.first)) is not None:
            closed = *lane, limited.free_at
        case Parked(kind, key) if kind in IN_BULK:
            closed = kind, key, None
        case _:
            return None
    elsewhere = closed[0] == "provider" and closed[1] != provider_of(_first_domain(parcel)).name
    return None if elsewhere else closed


def _first_domain(parcel: Parcel) -> str:
    return next((address.rpartition("@")[2] for address in parcel.first.recipients), "")


def park(conn: Connection, found: Crowd) -> Crowd | None:
    """The next step; what is left to do, or None where the slot has been looked through.

    First the others are pulled out of the crowd: they are few, and somebody waits for them. Then the crowd is moved into
    its lane, at leisure; at once, where the others could not be pulled out. What a quota holds stays in the lane of another
    account's: accounts that take turns would move it to and fro.
    """
    if not found.lane:
        found = replace(found, lane=pause.lane(conn, found.kind, found.key, closed_until=found.until))
    if found.lane == found.slot.lane or (found.kind == "quota" and parking.in_quota(conn, found.slot.lane)):
        return None
    if not found.is_open() or found.looks_again:
        return _pull(conn, found)
    started = time.monotonic()
    at_leisure = found.is_left()
    times, limit = LEISURE if at_leisure else HASTE
    for _ in range(times):
        moved = _move(conn, found, found.lane, limit=limit)
        if at_leisure and moved.moved < moved.seen:  # somebody came late into the crowd, or was put back
            _move(conn, found, pause.lane(conn, *OTHERS), limit=limit, others=True)
        if moved.seen < limit or (at_leisure and found.passes(moved.after)):
            return None
        found = replace(found, slot=moved.after)
    rest = REST * (time.monotonic() - started) if at_leisure else 0.0
    return replace(found, due=time.monotonic() + rest)


def _pull(conn: Connection, found: Crowd) -> Crowd:
    """Look through the next of the slot for others, and put them into a lane where they are claimed as ever.

    At the end of what is due look once more, a moment later, for what was being committed then.
    """
    pulled = _move(conn, found, pause.lane(conn, *OTHERS), limit=LOOK, others=True)
    if found.looks_again:
        done = pulled.seen < LOOK or found.passes(pulled.after)
        return replace(found, slot=found.head() if done else pulled.after, looks_again=not done)
    if pulled.seen < LOOK:
        again = replace(found.head(), after_at=pulled.after.after_at - COMMITTED)
        due = time.monotonic() + SETTLED
        return replace(found, slot=again, behind=pulled.after, looks_again=True, due=due)
    if pulled.moved > MIXED * LOOK:
        return replace(found, slot=found.head(), behind=found.head())
    return replace(found, slot=pulled.after)


def _move(conn: Connection, found: Crowd, lane: int, *, limit: int, others: bool = False) -> parking.Moved:
    paused = found.until is None
    return parking.park(
        conn, found.slot, found.key, lane, limit=limit, kind=found.kind, paused=paused, others=others
    )
