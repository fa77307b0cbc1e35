"""The only place where tests wait: for a state, never for a time."""

import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], object], *, within: float = 20.0, what: str = "the condition") -> object:
    """Look until it is true; fail with what was waited for."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within} s: {what} (last seen: {found!r})"
        threading.Event().wait(0.01)
