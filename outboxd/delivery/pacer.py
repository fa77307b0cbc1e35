"""The pace of the provider account: a request leaves only with a permit, and permits come from Postgres.

All daemons of an account draw on one reservation, so that together they stay below the provider's figure. The figure
is what its answers say; where they name none, nothing is held back until it refuses a request. A refusal that its
figure does not explain lowers the rate, and a minute without any raises it again, slowly: by one of all daemons. One
permit, or a tenth of a second of them, is drawn at a time and before it is needed, so that a round trip costs no pace.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from outboxd.db import account
from outboxd.db.account import Rate
from outboxd.db.session import Connection, ConnectionLostError, Session, StoppedError

log = logging.getLogger(__name__)

SHARE: Final = 0.97  # of the provider's figure, where policy names none
STALE: Final = 0.25  # seconds after which an unused permit is worth nothing
LOOK: Final = 1.0  # seconds between two looks at the shared rate, while requests go
PASSED: Final = 4096  # requests that are remembered, to tell how many the provider let through in a second
FALLEN: Final = 2.0  # seconds in which a figure that fell explains refusals: of what was on its way


@dataclass(slots=True)
class Pacer:
    """Permits for this daemon's requests. `take` is for any thread; `run` is the thread that draws them.

    `rate` is requests per second, None where nothing is held back. `on_rate` hears of a new one.
    """

    session: Session
    name: str
    stop: threading.Event
    on_rate: Callable[[float | None], None]
    rate: float | None = 10.0
    _known: Rate = Rate(10.0)  # noqa: RUF009 - frozen
    _passed: deque[float] = field(default_factory=lambda: deque(maxlen=PASSED))
    _fell_at: float = -FALLEN
    _looked_at: float = 0.0
    _permits: deque[float] = field(default_factory=deque)
    _wanted: int = 0
    _news: list[Callable[[Connection], object]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, within: float) -> bool:
        """A permit for one request, waiting up to `within` seconds for it."""
        if self.rate is None:
            return True
        deadline = time.monotonic() + within
        with self._changed:
            self._wanted += 1
            self._changed.notify_all()
            try:
                while True:
                    now = time.monotonic()
                    while self._permits and self._permits[0] < now - STALE:
                        self._permits.popleft()
                    if self._permits and self._permits[0] <= now:
                        self._permits.popleft()
                        self._changed.notify_all()
                        return True
                    if self.rate is None:
                        return True
                    if now >= deadline or self.stop.is_set():
                        return False
                    soonest = self._permits[0] if self._permits else deadline
                    self._changed.wait(min(soonest, deadline) - now)
            finally:
                self._wanted -= 1

    def give_back(self) -> None:
        """The permit was not used."""
        with self._changed:
            if self.rate is not None:
                self._permits.appendleft(time.monotonic())
                self._changed.notify_all()

    def heard(self, rate: float | None) -> None:
        """An answer named this rate."""
        known = self._known
        if rate == known.named:
            return
        if rate is not None and (known.named is None or rate < known.named):
            self._fell_at = time.monotonic()
        with self._changed:
            self._news.append(lambda conn: account.learn(conn, self.name, rate, instead=known.named))
        self._learned(Rate(rate, known.adapted))

    def passed(self) -> None:
        """The provider let a request through."""
        self._passed.append(time.monotonic())

    def overran(self, after: timedelta) -> None:
        """The provider said "too many requests": no daemon asks before `after`, and then more slowly."""
        now = time.monotonic()
        explained = now - self._fell_at < FALLEN
        passed = sum(at > now - 1.0 for at in self._passed.copy())
        with self._changed:
            self._permits.clear()
            self._news.append(
                lambda conn: account.overran(conn, self.name, after, passed=passed, explained=explained)
            )
            self._changed.notify_all()

    def close(self) -> None:
        """Wake the thread, for the stop."""
        with self._changed:
            self._changed.notify_all()

    def run(self) -> None:
        """The thread: until the daemon stops."""
        known = False
        while not self.stop.is_set():
            try:
                if not known:
                    self._learned(self.session.run(lambda conn: account.ensure(conn, self.name)))
                    self.on_rate(self.rate)
                    known = True
                self.session.run(self._round)
            except ConnectionLostError:
                log.warning("pacer lost its connection")
            except StoppedError:
                return
            except Exception:
                log.exception("pacing failed; trying again")
                self.session.close()
                self.stop.wait(1.0)

    def _round(self, conn: Connection) -> None:
        """Say what was heard, then draw the next permits if somebody wants them and none are left."""
        with self._changed:
            if not self._news and not self._short():
                self._changed.wait(LOOK)
            news, wanted = list(self._news), self._short()
        for tell in news:
            tell(conn)
            with self._changed:
                self._news.remove(tell)  # not before: it must not be lost with the connection
        if news or self._look_due():
            self._learned(account.adapt(conn, self.name))
            self._looked_at = time.monotonic()
        if not wanted or self.rate is None:
            return
        rate, grants, due_in = account.reserve(conn, self.name, wanted, share=SHARE)
        self._learned(rate)
        with self._changed:
            self._permits.extend([time.monotonic() + due_in] * grants)
            self._changed.notify_all()

    def _short(self) -> int:
        """How many permits are wanted while none is left."""
        return self._wanted if not self._permits and self.rate is not None else 0

    def _look_due(self) -> bool:
        """Whether to look at the rate that others may have changed: only where requests went since the last look."""
        return bool(self._passed) and self._passed[-1] > self._looked_at < time.monotonic() - LOOK

    def _learned(self, rate: Rate) -> None:
        if rate == self._known:
            return
        with self._changed:
            self._known = rate
            self.rate = rate.obeyed
            self._changed.notify_all()
        self.on_rate(rate.obeyed)
