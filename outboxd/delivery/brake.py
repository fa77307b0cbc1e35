"""The provider said "too many requests": nobody in this daemon asks before it allows."""

import threading
import time


class Brake:
    """One instant that all senders respect."""

    def __init__(self) -> None:
        self._until = 0.0
        self._lock = threading.Lock()

    def hold(self, seconds: float) -> None:
        """Let nobody ask for this long; a longer hold stands."""
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)

    def rest(self) -> float:
        """Seconds until asking is allowed again; 0 where it is now."""
        return max(0.0, self._until - time.monotonic())
