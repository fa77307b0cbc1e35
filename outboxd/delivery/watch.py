"""The watch over the server's clock: each grant of limits is a look at it, and none is kept that was made after a step.

Who forgets what counts no more looks first, and goes by what the clock said then.
"""

import logging
from collections.abc import Callable
from datetime import datetime

from outboxd.core.clock import Look, Step, further_behind, step
from outboxd.db.clock import follow, read
from outboxd.db.session import Connection
from outboxd.delivery.steady import steady

log = logging.getLogger(__name__)


class SteppedError(Exception):
    """The server's clock has gone ahead since the last look: what was granted just now does not hold."""

    def __init__(self, step: Step) -> None:
        super().__init__(f"the server's clock is at {step.at}, and should be at {step.expected}")
        self.step = step


class Watch:
    """What the server's clock said when it was furthest behind. For one thread."""

    def __init__(self, clock: Callable[[], float] = steady) -> None:
        self.clock = clock
        self.base: Look | None = None

    def saw(self, at: datetime, asked: float) -> None:
        """Compare with what was seen before, and remember. Raises `SteppedError` where the clock has gone ahead."""
        look = Look(at, asked, self.clock())
        if self.base is None:
            self.base = look
        elif found := step(self.base, look):
            raise SteppedError(found)
        else:
            self.base = further_behind(self.base, look)

    def look(self, conn: Connection) -> datetime:
        """What the clock says; where it has gone ahead, what limits counted has moved along."""
        asked = self.clock()
        at = read(conn)
        try:
            self.saw(at, asked)
        except SteppedError as stepped:
            self.follow(conn, stepped.step)
            return self.look(conn)
        return at

    def follow(self, conn: Connection, found: Step) -> None:
        """Take the step out of what limits counted, and look anew from here."""
        moved = follow(conn, found)
        self.base = None
        if moved is not None:
            log.warning(
                "the server's clock went ahead; limits count on",
                extra={"seconds": round(moved.total_seconds(), 3)},
            )
