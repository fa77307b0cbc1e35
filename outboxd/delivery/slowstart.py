"""Slow start: how many senders may be at it at a time, as the ramp says.

A sender enters before it takes an email and leaves when that has its outcome. With the ramp at its top this is a lock
and a counter, some microseconds per request.
"""

import threading
from typing import Final

from outboxd.core.outcome import Outcome, SentAll
from outboxd.core.ramp import IN_A_ROW, Ramp, after

LOOK: Final = 1.0  # seconds between two looks whether the daemon stops


class SlowStart:
    """Shared by all senders; all methods are for any thread."""

    def __init__(self, threads: int) -> None:
        self._ramp = Ramp(threads)
        self._inside = 0
        self._changed = threading.Condition()

    def enter(self, stop: threading.Event) -> bool:
        """Wait for one's turn; False where the daemon stops meanwhile."""
        with self._changed:
            while self._inside >= self._ramp.width:
                if stop.is_set():
                    return False
                self._changed.wait(LOOK)
            self._inside += 1
            return True

    def start_over(self) -> None:
        """The provider is known to be ill, if not from this daemon's own asks: begin with few."""
        with self._changed:
            self._ramp = Ramp(self._ramp.most, failures=IN_A_ROW)

    def leave(self, outcome: Outcome | SentAll) -> None:
        """One email has its outcome."""
        with self._changed:
            self._inside -= 1
            self._ramp = after(self._ramp, outcome)
            if self._inside < self._ramp.width:
                self._changed.notify(self._ramp.width - self._inside)
