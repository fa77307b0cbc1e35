"""The only way to run something in the background: a named thread, and a round that is done every so often."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from outboxd import metrics

log = logging.getLogger(__name__)

LONGEST_PAUSE: Final = 30.0  # seconds between two rounds that fail,
MOST_INTERVALS: Final = 4  # and no more of its intervals: what heals is at work again within a few


def every(interval: timedelta, work: Callable[[], object], stop: threading.Event, *, name: str) -> None:
    """Do one round, wait, again, until `stop`.

    A round that raises is logged and counted and ends nothing; while rounds fail the pause doubles, up to four intervals
    or 30 s.
    """
    failures, often = 0, interval.total_seconds()
    longest = max(often, min(LONGEST_PAUSE, MOST_INTERVALS * often))
    while not stop.is_set():
        try:
            work()
        except Exception:
            failures += 1
            metrics.loop_errors.add(1, {"loop": name})
            log.exception("a round failed", extra={"loop": name, "failures": failures})
        else:
            failures = 0
        stop.wait(min(often * 2 ** min(failures, 10), longest))


def spawn(name: str, target: Callable[[], object], on_crash: Callable[[str], None]) -> threading.Thread:
    """Start a thread that must not end by an exception; if it does, `on_crash` hears its name."""

    def body() -> None:
        try:
            target()
        except Exception:
            log.exception("a thread died", extra={"thread_name": name})
            on_crash(name)

    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()
    return thread
