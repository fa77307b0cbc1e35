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
from outboxd.db import lease, parking, pause
from outboxd.db.lease import Slot
from outboxd.db.session import Connection
from outboxd.delivery.gates import Stopped
from outboxd.delivery.parking import OTHERS, REST, SETTLED

MOST: Final = 2_000  # rows that one step looks at
KNOWN: Final = 10_000  # lanes that are remembered as looked through

Place = tuple[str, str]  # kind and key of a lane


@dataclass(slots=True)
class Look:
    """One lane, and what of it is still to be looked through; None: it has not begun. `due` is by `time.monotonic`."""

    place: Place
    slots: list[Slot] | None = None
    passes: int = 2
    due: float = 0.0


@dataclass(slots=True)
class Exempt:
    """What this daemon has still to look through, and which lanes it has, under the limits in force."""

    _looks: list[Look] = field(default_factory=list)
    _known: set[Place] = field(default_factory=set)
    _under: Limits | None = None

    def saw(self, refused: Iterable[tuple[Parcel, Stopped]], limits: Limits) -> None:
        """These were refused, by `limits`: the lanes that this closes are to be looked through."""
        if limits is not self._under:
            self._under, self._looks = limits, []
            self._known.clear()
        if not limits.exempting:
            return
        for parcel, stopped in refused:
            if isinstance(stopped.outcome, Limited):
                place = lane_of_limit(stopped.outcome, parcel.first)
                if place is not None and _may_exempt(limits, place[0]) and not self._knows(place):
                    self._looks.append(Look(place))

    def _knows(self, place: Place) -> bool:
        return place in self._known or any(look.place == place for look in self._looks)

    def due(self) -> float | None:
        """When the next step is due, by `time.monotonic`; None where there is none."""
        return min((look.due for look in self._looks), default=None)

    def pull(self, conn: Connection, account: str) -> bool:
        """The next step that is due; True where something came out of a lane."""
        look = min(self._looks, key=lambda look: look.due, default=None)
        started = time.monotonic()
        if look is None or look.due > started:
            return False
        moved = self._begin(conn, look, account) if look.slots is None else _step(conn, look)
        if look.slots:
            look.due = time.monotonic() + REST * (time.monotonic() - started)
        else:
            self._end(look)
        return moved

    def _begin(self, conn: Connection, look: Look, account: str) -> bool:
        lane = parking.exempting(conn, *look.place)
        if lane is None:
            look.slots, look.passes = [], 0
            return False
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known.add(look.place)
        look.slots = [one.slot() for one in lease.slots(conn, account) if one.lane == lane]
        return False

    def _end(self, look: Look) -> None:
        look.passes -= 1
        look.slots, look.due = None, time.monotonic() + SETTLED
        if look.passes <= 0:
            self._looks.remove(look)


def _may_exempt(limits: Limits, closes: str) -> bool:
    """Whether some limit that closes lanes of this kind exempts a type."""
    return not limits.exempting.isdisjoint(BY_PROVIDER if closes == "provider" else (closes,))


def _step(conn: Connection, look: Look) -> bool:
    """Pull what is exempt out of the next rows of the lane's first slot, due or not."""
    assert look.slots
    (kind, key), slot = look.place, look.slots.pop(0)
    to = pause.lane(conn, *(("exempt", key) if kind == "tenant" else OTHERS))
    found = parking.park(conn, slot, key, to, limit=MOST, kind=kind, others=True, scheduled=True)
    if found.seen == MOST:
        look.slots.insert(0, found.after)
    return found.moved > 0
