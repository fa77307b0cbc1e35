"""Whether the server's clock went ahead of true time. Pure.

Limits count by the server's clock. What it skips has not passed: counts that would leave their windows by it still hold.
Two looks at it, and the time between them by a clock that never steps, tell by how much it went ahead.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

TOLERANCE: Final = timedelta(seconds=1)  # that limits' windows are longer by
DRIFT: Final = 0.001  # of the time between two looks: twice what a clock may be slewed by


@dataclass(frozen=True, slots=True)
class Look:
    """The server's clock said `at`; it was asked at `asked`, in seconds of a clock that never steps."""

    at: datetime
    asked: float


@dataclass(frozen=True, slots=True)
class Step:
    """The server's clock was seen at `seen_at`, and said `at` when by true time it was `expected` at the latest."""

    seen_at: datetime
    expected: datetime
    at: datetime
    tolerance: timedelta


def step(before: Look, at: datetime, answered: float) -> Step | None:
    """The step ahead between a look and one that was answered at `answered`; None where there is none."""
    elapsed = timedelta(seconds=answered - before.asked)
    tolerance = TOLERANCE + elapsed * DRIFT
    expected = before.at + elapsed
    return Step(before.at, expected, at, tolerance) if at - expected > tolerance else None
