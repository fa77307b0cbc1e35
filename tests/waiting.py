"""The only place where tests wait: for a state, never for a time."""

import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], object], *, within: float = 20.0, what: str = "the condition") -> object:
    """Look until it is true; fail with what was waited for."""
    began = time.monotonic()
    while True:
        found = condition()
        if found:
            return found
        waited = time.monotonic() - began
        assert waited < within, f"not within {within} s: {what} (last seen: {found!r})"
        threading.Event().wait(min(0.01 + waited / 50, 0.05))  # what lasts is looked at less often
