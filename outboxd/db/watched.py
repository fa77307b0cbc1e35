"""A connection whose stalled statement can be broken off from another thread.

A backend that stands still (stopped, or behind a middlebox that only acknowledges) defeats `statement_timeout`, which
it would have to enforce itself, and TCP's keepalives, which the kernel answers. Shutting the socket gives the waiting
thread the error of a lost connection at once.
"""

import os
import socket
import threading
import time
from typing import Any

import psycopg
from psycopg.rows import TupleRow


class Watched(psycopg.Connection[TupleRow]):
    """Notes since when it waits for the server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_path = False  # whether the path's settings are the session's
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

    def break_if_stalled(self, bound: float) -> bool:
        """Shut the socket if one answer has been waited for longer than `bound` seconds; for any thread."""
        with self._watch:
            if self._asked_at is None or time.monotonic() - self._asked_at < bound:
                return False
            with socket.socket(fileno=os.dup(self.pgconn.socket)) as ours:
                ours.shutdown(socket.SHUT_RDWR)
            return True
