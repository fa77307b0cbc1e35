"""What this process has in hand: claimed, and waiting for a sender. Bounded to about a second of sending.

The claimer fills it, the senders take from it in order. An email whose gates answered more than a second ago is not
handed out until they were asked again (`stale`, `refresh`): no first ask begins later than that after a cancel.
"""

import collections
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from outboxd.core.email import Claimed

FRESH: Final = 1.0  # seconds that an answer of the gates is good for
AHEAD: Final = 1.0  # seconds of sending that may wait
MOST: Final = 1000  # emails that may wait
MEMORY: Final = 0.9  # how much of the mean duration of an ask an ask leaves


@dataclass(slots=True)
class Held:
    """A claimed email with this process's clock: instants are `time.monotonic` seconds."""

    email: Claimed
    claimed_at: float
    lease_ends: float
    checked_at: float

    def now(self) -> datetime:
        """The database's clock, carried on from the claim."""
        return self.email.claimed_at + timedelta(seconds=time.monotonic() - self.claimed_at)


class Hand:
    """Emails between claimer and senders. All methods are for any thread."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._waiting: collections.deque[Held] = collections.deque()
        self._taken: dict[int, Held] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._mean = 1.0  # seconds that an ask takes

    def capacity(self) -> int:
        """How many may wait: what the senders ask in about a second."""
        return int(min(MOST, max(1.0, self._threads / max(self._mean, 0.001) * AHEAD)))

    def room(self) -> int:
        """How many to claim now; 0 while half of the capacity still waits, so that claims stay few and large."""
        with self._changed:
            waiting = len(self._waiting)
        capacity = self.capacity()
        return capacity - waiting if waiting <= capacity // 2 else 0

    def wait_for_room(self, seconds: float) -> None:
        """Sleep until there may be room."""
        with self._changed:
            if len(self._waiting) > self.capacity() // 2:
                self._changed.wait(seconds)

    def put(self, emails: Iterable[Held]) -> None:
        """Add claimed emails, in the order to ask."""
        with self._changed:
            self._waiting.extend(emails)
            self._changed.notify_all()

    def take(self) -> Held | None:
        """The next email to ask, waiting for one whose gates are fresh; None once the hand is closed."""
        with self._changed:
            while not self._closed and not self._ripe():
                self._changed.wait(0.5)
            if self._closed:
                return None
            held = self._waiting.popleft()
            self._taken[id(held)] = held
            if len(self._waiting) <= self.capacity() // 2:
                self._changed.notify_all()
            return held

    def put_back(self, held: Held) -> bool:
        """It was taken but must not be asked yet: first in line again. False once the hand is closed."""
        with self._changed:
            del self._taken[id(held)]
            if not self._closed:
                self._waiting.appendleft(held)
            return not self._closed

    def done(self, held: Held, asked_for: float | None) -> None:
        """It has an outcome; `asked_for` is the seconds that the ask took, None where nothing was asked."""
        with self._changed:
            del self._taken[id(held)]
            if asked_for is not None:
                self._mean = MEMORY * self._mean + (1 - MEMORY) * asked_for
            self._changed.notify_all()

    def stale(self) -> list[int]:
        """The ids of all that wait, if the gates have to be asked again soon."""
        with self._changed:
            now = time.monotonic()
            if all(now - held.checked_at < FRESH / 2 for held in self._waiting):
                return []
            return [held.email.id for held in self._waiting]

    def refresh(self, asked_at: float, stopped: set[int]) -> list[Held]:
        """The gates were asked at `asked_at` about all that waited; takes out those that may not go any more."""
        with self._changed:
            for held in self._waiting:
                held.checked_at = max(held.checked_at, asked_at)
            return self._take_out(lambda held: held.email.id in stopped)

    def remove_short(self, need: float) -> list[Held]:
        """Takes out what can no longer be asked within its lease: its rest is below `need` seconds."""
        with self._changed:
            now = time.monotonic()
            return self._take_out(lambda held: held.lease_ends - now < need)

    def close(self) -> list[Held]:
        """Hand out no more; returns what was not asked."""
        with self._changed:
            self._closed = True
            return self._take_out(lambda _: True)

    def asking(self) -> int:
        """How many are with the senders."""
        with self._changed:
            return len(self._taken)

    def empty(self) -> bool:
        """Whether nothing waits and nothing is being asked."""
        with self._changed:
            return not self._waiting and not self._taken

    def suspects(self) -> list[int]:
        """The lanes of the suspects in hand, waiting or asked."""
        with self._changed:
            every = (*self._waiting, *self._taken.values())
            return [held.email.lane for held in every if held.email.lane < 0]

    def _ripe(self) -> bool:
        return bool(self._waiting) and time.monotonic() - self._waiting[0].checked_at < FRESH

    def _take_out(self, which: Callable[[Held], bool]) -> list[Held]:
        out = [held for held in self._waiting if which(held)]
        if out:
            self._waiting = collections.deque(held for held in self._waiting if not which(held))
        self._changed.notify_all()
        return out
