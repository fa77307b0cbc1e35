"""Whether the server's clock went ahead of true time. Pure.

Limits count by the server's clock. What it skips has not passed: counts that would leave their windows by it still hold.
Two looks at it, and the time between them by a clock that never steps, tell by how much it went ahead. However long
answers take, a true clock is never found ahead. Small steps add up: what is compared with is the look that showed the
clock furthest behind.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

TOLERANCE: Final = timedelta(seconds=0.1)  # of the second that limits' windows are longer by
DRIFT: Final = 0.001  # of the time between two looks: twice what a clock may be slewed by


@dataclass(frozen=True, slots=True)
class Look:
    """The server's clock said `at`, between `asked` and `answered`, in seconds of a clock that never steps."""

    at: datetime
    asked: float
    answered: float


@dataclass(frozen=True, slots=True)
class Step:
    """The server's clock was seen at `seen_at`, and said `at` when by true time it was from `earliest` to `expected`."""

    seen_at: datetime
    earliest: datetime
    expected: datetime
    at: datetime
    tolerance: timedelta


def step(base: Look, look: Look) -> Step | None:
    """The step ahead between two looks; None where there is none for certain."""
    elapsed = timedelta(seconds=look.answered - base.asked)
    least = timedelta(seconds=max(0.0, look.asked - base.answered))
    tolerance = TOLERANCE + elapsed * DRIFT
    expected = base.at + elapsed
    if look.at - expected <= tolerance:
        return None
    return Step(base.at, base.at + least, expected, look.at, tolerance)


def further_behind(base: Look, look: Look) -> Look:
    """Of two looks, the one that shows a step ahead of the clock best, slewing allowed for."""
    elapsed = timedelta(seconds=look.asked - base.asked)
    return look if look.at - base.at <= elapsed * (1 + DRIFT) else base
