"""What a limit exempts and yet waits in the lane that the limit closed: it is looked for there, and pulled out.

It came there while a pause or a suspension held every type, or before its type was exempt. Either is a change of policy,
which opens the lanes and has each daemon look through the next one that a limit closes: once, and once more for what
was being committed. A look that finds the lane paused or suspended counts for nothing. A daemon's first look at a lane
may be in vain, as it knows no change of before. Where no limit exempts a type nothing is remembered or asked.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from outboxd.core.batch import Parcel
from outboxd.core.limits import BY_PROVIDER, Limits
from outboxd.core.outcome import Limited
from outboxd.core.retry import lane_of_limit
from outboxd.db import parking, pause
from outboxd.db.lease import Slot
from outboxd.db.session import Connection
from outboxd.delivery.gates import Stopped
from outboxd.delivery.parking import OTHERS, REST, SETTLED

MOST: Final = 2_000  # rows that one step looks at
KNOWN: Final = 10_000  # lanes that are looked through after one change of policy
FAILED: Final = 1.0  # seconds until the step after one that failed

Place = tuple[str, str]  # kind and key of a lane


@dataclass(slots=True)
class Look:
    """What of one lane is still to be looked through; None: it has not begun. `due` is by `time.monotonic`."""

    slots: list[Slot] | None = None
    passes: int = 2
    due: float = 0.0


@dataclass(slots=True)
class Exempt:
    """What this daemon has still to look through, and which lanes it has, under the limits in force.

    `_rests` until when, whatever is due: claims go on between two steps, be it in thousands of lanes.
    """

    _looks: dict[Place, Look] = field(default_factory=dict)
    _known: set[Place] = field(default_factory=set)
    _under: Limits | None = None
    _rests: float = 0.0

    def saw(self, refused: Iterable[tuple[Parcel, Stopped]], limits: Limits) -> None:
        """These were refused, by `limits`: the lanes that this closes are to be looked through."""
        if limits is not self._under:
            self._under = limits
            self._looks.clear()
            self._known.clear()
        if not limits.exempting:
            return
        for parcel, stopped in refused:
            for outcome in stopped.members or (stopped.outcome,):
                place = lane_of_limit(outcome, parcel.first) if isinstance(outcome, Limited) else None
                if place is not None and self._is_new(place) and _may_exempt(limits, place[0]):
                    self._looks[place] = Look()

    def _is_new(self, place: Place) -> bool:
        known = place in self._known or place in self._looks
        return not known and len(self._known) + len(self._looks) < KNOWN

    def due(self) -> float | None:
        """When the next step is due, by `time.monotonic`; None where there is none."""
        soonest = min((look.due for look in self._looks.values()), default=None)
        return None if soonest is None else max(soonest, self._rests)

    def pull(self, conn: Connection) -> bool:
        """The next step that is due; True where something came out of a lane."""
        started = time.monotonic()
        if not self._looks or self._rests > started:
            return False
        place, look = min(self._looks.items(), key=lambda item: item[1].due)
        if look.due > started:
            return False
        self._rests = started + FAILED
        moved = False
        if look.slots is None:
            self._begin(conn, place, look)
        else:
            moved = _step(conn, place, look.slots)
        if not look.slots:
            self._end(place, look)
        self._rests = time.monotonic() + REST * (time.monotonic() - started)
        return moved

    def _begin(self, conn: Connection, place: Place, look: Look) -> None:
        lane = parking.exempting(conn, *place)
        if lane is None:
            look.slots, look.passes = [], 0
            return
        self._known.add(place)
        look.slots = parking.slots_in(conn, lane)

    def _end(self, place: Place, look: Look) -> None:
        look.passes -= 1
        look.slots, look.due = None, time.monotonic() + SETTLED
        if look.passes <= 0:
            del self._looks[place]


def _may_exempt(limits: Limits, closes: str) -> bool:
    """Whether some limit that closes lanes of this kind exempts a type."""
    return not limits.exempting.isdisjoint(BY_PROVIDER if closes == "provider" else (closes,))


def _step(conn: Connection, place: Place, slots: list[Slot]) -> bool:
    """Pull what is exempt out of the next rows of the lane's first slot, due or not."""
    (kind, key), slot = place, slots.pop(0)
    to = pause.lane(conn, *(("exempt", key) if kind == "tenant" else OTHERS))
    found = parking.park(conn, slot, key, to, limit=MOST, kind=kind, others=True, scheduled=True)
    if found.seen == MOST:
        slots.insert(0, found.after)
    return found.moved > 0
