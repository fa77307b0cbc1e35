"""What this process has in hand: claimed, and waiting for a sender. Bounded to about a second of sending.

The claimer fills it, the senders take from it in order. A parcel whose gates answered almost a second ago is not
handed out until they were asked again (`stale`, `refresh`): no first ask begins later than that after a cancel.
"""

import collections
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from outboxd.core import batch
from outboxd.core.batch import Parcel
from outboxd.db.pause import Probe
from outboxd.delivery.steady import steady

FRESH: Final = 0.9  # seconds that the gates' answer is good for: GRANT_TO_ARRIVAL, less the way there
OLD: Final = 0.7  # seconds after which they are asked again, about all that is as old as
OLDER: Final = 0.4  # this: few rounds
AHEAD: Final = (0.2, 0.7)  # seconds of sending that may wait, least and most
SHRINK, GROW = 0.7, 1.03  # by what that changes where gates have to be asked again, and with each claim
MOST: Final = 2000  # emails that may wait
MEMORY: Final = 0.9  # how much of the mean duration of an ask an ask leaves
OVERTAKEN: Final = 2.0  # seconds in which more urgent mail goes before what was claimed already
MATES: Final = 0.5  # how much of the mean size of a parcel a claim leaves
FEW: Final = 3  # requests, below which a claim does not tell how many emails would fill one
MORE: Final = 4  # times as many are tried: it brought half of the capacity at least, so that this doubles it


@dataclass(slots=True)
class Held:
    """A claimed parcel with this process's clock: instants are `steady` seconds.

    `probe` names the pause in spite of which it is asked.
    """

    parcel: Parcel
    claimed_at: float
    lease_ends: float
    checked_at: float
    probe: Probe | None = None

    def now(self) -> datetime:
        """The database's clock, carried on from the claim."""
        return self.parcel.first.claimed_at + timedelta(seconds=steady() - self.claimed_at)


class Hand:
    """Parcels between claimer and senders. All methods are for any thread."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._waiting: collections.deque[Held] = collections.deque()
        self._emails = 0  # in the parcels that wait
        self._expected = 0  # emails that are being bound
        self._coming = 0  # senders that wait for a permit to take one
        self._taken: dict[int, Held] = {}
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # senders wait for it
        self._space = threading.Condition(self._lock)  # and the claimer for this
        self._closed = False
        self._mean = 1.0  # seconds that an ask takes
        self._mates = 10.0  # emails that travel in one parcel: a guess, for the first claim alone
        self._rate: float | None = None
        self._ahead = AHEAD[1]

    def pace(self, rate: float | None) -> None:
        """No more than this many requests a second will leave; None: as many as the senders make."""
        with self._lock:
            self._rate = rate

    def capacity(self) -> int:
        """How many emails may wait: what the senders ask before the gates' answers get old.

        So the gates are asked once about most emails, at their claim: a second answer costs more than the first.
        """
        return int(min(MOST, self._requests() * self._mates))

    def _requests(self) -> float:
        """How many requests go before the gates' answers get old; one at least."""
        requests = self._threads / max(self._mean, 0.001)
        if self._rate is not None:
            requests = min(requests, self._rate)
        return max(1.0, requests * self._ahead)

    def _learned(self, sizes: Sequence[int]) -> float:
        """How many emails travel in one parcel, after one more claim.

        Where few requests go, a claim brings no more emails than were thought to fill one, and does not tell how many
        more would have shared it: more are tried. Else one email at a time would be claimed once, and then for good.
        """
        mean = sum(sizes) / len(sizes)
        if self._requests() < FEW and len(sizes) < FEW and sum(sizes) >= self.capacity() // 2:
            return min(batch.MOST, MORE * mean)
        return MATES * self._mates + (1 - MATES) * mean

    def room(self) -> int:
        """How many to claim now; 0 while half of the capacity still waits, so that claims stay few and large."""
        with self._lock:
            waiting = self._emails + self._expected
        capacity = self.capacity()
        return max(capacity, 1) - waiting if waiting <= capacity // 2 else 0

    def wait_for_room(self, seconds: float) -> None:
        """Sleep until there may be room."""
        with self._lock:
            if self._emails + self._expected > self.capacity() // 2:
                self._space.wait(seconds)

    def expect(self, emails: int) -> None:
        """So many more will be put here soon; fewer than none: those are here now, or do not come."""
        with self._lock:
            self._expected += emails

    def put(self, parcels: Iterable[Held]) -> None:
        """Add claimed parcels, in the order to ask; more urgent ones go before what waits already."""
        with self._lock:
            added = list(parcels)
            sizes = [len(held.parcel.emails) for held in added]
            urgent = self._waiting and added and _priority(added[0]) < _priority(self._waiting[-1])
            self._waiting.extend(added)
            self._ahead = min(AHEAD[1], self._ahead * GROW)
            if urgent:
                self._waiting = collections.deque(sorted(self._waiting, key=_rank(steady())))
            self._emails += sum(sizes)
            if sizes:
                self._mates = self._learned(sizes)
            self._work.notify(len(added))

    def wait(self) -> bool:
        """Sleep until something may be asked that no other sender comes for; False once the hand is closed.

        Each True is followed by one `take` or `leave`.
        """
        with self._lock:
            while not self._closed and not (self._ripe() and self._coming < len(self._waiting)):
                self._work.wait(0.5)
            self._coming += not self._closed
            return not self._closed

    def leave(self) -> None:
        """The sender that waited does not come for it after all."""
        with self._lock:
            self._coming -= 1
            self._work.notify()

    def take(self) -> Held | None:
        """The next parcel to ask, if there is one whose gates are fresh."""
        with self._lock:
            self._coming -= 1
            if self._closed or not self._ripe():
                return None
            held = self._waiting.popleft()
            self._emails -= len(held.parcel.emails)
            self._taken[id(held)] = held
            if self._emails <= self.capacity() // 2:
                self._space.notify()
            return held

    def done(self, held: Held, asked_for: float | None) -> None:
        """It has an outcome; `asked_for` is the seconds that the ask took, None where nothing was asked."""
        with self._lock:
            del self._taken[id(held)]
            if asked_for is not None:
                self._mean = MEMORY * self._mean + (1 - MEMORY) * asked_for
            self._space.notify()

    def stale(self) -> list[Held]:
        """What waits and was answered a while ago, if the gates have to be asked again soon."""
        with self._lock:
            now = steady()
            if all(now - held.checked_at < OLD for held in self._waiting):
                return []
            self._ahead = max(AHEAD[0], self._ahead * SHRINK)
            return [held for held in self._waiting if now - held.checked_at >= OLDER]

    def refresh(self, asked: Iterable[Held], asked_at: float, stops: Callable[[Held], bool]) -> list[Held]:
        """The gates were asked at `asked_at` about these; takes out those of them that may not go any more."""
        with self._lock:
            known = {id(held) for held in asked}
            for held in self._waiting:
                if id(held) in known:
                    held.checked_at = max(held.checked_at, asked_at)
            self._work.notify_all()
            return self._take_out(lambda held: id(held) in known and stops(held))

    def remove_short(self, need: float) -> list[Held]:
        """Takes out what can no longer be asked within its lease: its rest is below `need` seconds."""
        with self._lock:
            now = steady()
            return self._take_out(lambda held: held.lease_ends - now < need)

    def close(self) -> list[Held]:
        """Hand out no more; returns what was not asked."""
        with self._lock:
            self._closed = True
            self._work.notify_all()
            return self._take_out(lambda _: True)

    def asking(self) -> int:
        """How many requests are with the senders."""
        with self._lock:
            return len(self._taken)

    def waiting(self) -> int:
        """How many emails wait for a sender."""
        with self._lock:
            return self._emails

    def least_urgent(self) -> int:
        """The priority number of the last that waits; 0 where nothing does."""
        with self._lock:
            return _priority(self._waiting[-1]) if self._waiting else 0

    def room_before(self, priority: int) -> int:
        """How many more urgent emails to claim, as if those of this priority number and above did not wait."""
        with self._lock:
            before = sum(len(one.parcel.emails) for one in self._waiting if _priority(one) < priority)
            return max(0, self.capacity() - before - self._expected)

    def empty(self) -> bool:
        """Whether nothing waits, nothing is expected and nothing is being asked."""
        with self._lock:
            return not self._waiting and not self._expected and not self._taken

    def suspects(self) -> list[int]:
        """The lanes of the suspects in hand, waiting or asked."""
        with self._lock:
            every = (*self._waiting, *self._taken.values())
            return [held.parcel.lane for held in every if held.parcel.lane < 0]

    def _ripe(self) -> bool:
        return bool(self._waiting) and steady() - self._waiting[0].checked_at < FRESH

    def _take_out(self, which: Callable[[Held], bool]) -> list[Held]:
        out = [held for held in self._waiting if which(held)]
        if out:
            gone = {id(held) for held in out}
            self._waiting = collections.deque(held for held in self._waiting if id(held) not in gone)
            self._emails = sum(len(held.parcel.emails) for held in self._waiting)
            self._space.notify()
        return out


def _priority(held: Held) -> int:
    return held.parcel.first.priority


def _rank(now: float) -> Callable[[Held], int]:
    """By priority, but for who was overtaken for long enough: nothing that was claimed starves in the hand."""
    return lambda held: 0 if now - held.claimed_at >= OVERTAKEN else _priority(held)
