"""What the main thread does while the others work: signals, reloads, and the service manager's watchdog.

Signal handlers only note the signal; everything else happens here, between two beats. The watchdog is fed as long as
`alive` says so, and through the drain, which has a bound of its own.
"""

import contextlib
import logging
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from outboxd.errors import ConfigError
from outboxd.reload import Live
from outboxd.systemd import Notifier

log = logging.getLogger(__name__)

BEAT: Final = 0.5  # seconds
EARLY_BEAT: Final = 0.05  # until it is ready, because somebody may wait for that


@dataclass(slots=True)
class Attendant:
    """The main thread's parts. `sends` says whether it is connected, `alive` whether it is not hung."""

    stop: threading.Event
    give_up: threading.Event
    notifier: Notifier
    live: Live
    sends: Callable[[], bool]
    alive: Callable[[], bool]
    status: Callable[[], str]
    on_reload: list[Callable[[], object]]
    noted: "queue.SimpleQueue[int]" = field(default_factory=queue.SimpleQueue)


def attend(attendant: Attendant) -> None:
    """Until the daemon stops. The manager hears that it is ready once it is connected to Postgres."""
    ready = False
    while not attendant.stop.is_set():
        attendant.notifier.status(attendant.status())
        if not ready and attendant.sends():
            ready = True
            attendant.notifier.status(attendant.status())  # it may have connected since the line above
            attendant.notifier.ready()
        if attendant.alive():
            attendant.notifier.alive()
        with contextlib.suppress(queue.Empty):
            if attendant.noted.get(timeout=BEAT if ready else EARLY_BEAT) == signal.SIGHUP:
                reload(attendant)
    attendant.notifier.stopping()
    attendant.notifier.status("stopping: what is on the wire finishes, the rest goes back")


def reload(attendant: Attendant) -> None:
    """Read the configuration again, then tell everybody who waits for that. A wrong one changes nothing."""
    attendant.notifier.reloading()
    try:
        change = attendant.live.reload()
    except ConfigError as error:
        for mistake in error.mistakes:
            log.error("the new configuration is wrong; keeping the old one", extra={"mistake": mistake})  # noqa: TRY400
    except Exception:
        log.exception("reloading failed; keeping the old configuration")
    else:
        log.info("reloaded", extra={"changed": ", ".join(change.taken) or "nothing"})
        if change.waiting:
            log.warning(
                "these settings change with a restart only", extra={"settings": ", ".join(change.waiting)}
            )
        _tell(attendant.on_reload)
    attendant.notifier.ready()


@contextlib.contextmanager
def obeying_signals(attendant: Attendant) -> Iterator[None]:
    """SIGTERM and SIGINT stop, a second one hurries, SIGHUP reloads; afterwards the signals are as before."""

    def on_stop(number: int, _frame: FrameType | None) -> None:
        if attendant.stop.is_set():
            attendant.give_up.set()
        attendant.stop.set()
        attendant.noted.put(number)

    def on_reload(number: int, _frame: FrameType | None) -> None:
        attendant.noted.put(number)

    handlers = {signal.SIGTERM: on_stop, signal.SIGINT: on_stop, signal.SIGHUP: on_reload}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _tell(hooks: list[Callable[[], object]]) -> None:
    for hook in hooks:
        try:
            hook()
        except Exception:
            log.exception("a part did not take the reload")
