"""A connection whose stalled statement can be broken off from another thread.

A backend that stands still (stopped, or behind a middlebox that only acknowledges) defeats `statement_timeout`, which
it would have to enforce itself, and TCP's keepalives, which the kernel answers. Shutting the socket gives the waiting
thread the error of a lost connection at once. Work that the server may take longer for says so (`patient`).
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import TupleRow


class Watched(psycopg.Connection[TupleRow]):
    """Notes since when it waits for the server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_path = False  # whether the path's settings are the session's
        self.patience = 0.0  # seconds that an answer may take, where that is more than the watchdog's bound
        self._asked_at: float | None = None
        self._watch = (
            threading.Lock()
        )  # held to begin, to end and to break: so a descriptor is never another's

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the server's answer; every statement passes here."""
        with self._watch:
            self._asked_at = time.monotonic()
        try:
            return super().wait(*args, **kwargs)
        finally:
            with self._watch:
                self._asked_at = None

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """For as long as this lasts an answer may take so many seconds."""
        before, self.patience = self.patience, seconds
        try:
            yield
        finally:
            self.patience = before

    def break_if_stalled(self, bound: float) -> bool:
        """Shut the socket if one answer has been waited for longer than `bound` seconds; for any thread.

        No sooner than its owner's patience ends.
        """
        with self._watch:
            if self._asked_at is None or time.monotonic() - self._asked_at < max(bound, self.patience):
                return False
            with socket.socket(fileno=os.dup(self.pgconn.socket)) as ours:
                ours.shutdown(socket.SHUT_RDWR)
            return True
