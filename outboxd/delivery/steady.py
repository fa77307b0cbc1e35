"""The clock of what goes out of date: a lease, what the gates answered, when an ask began.

Such an instant is compared with no other clock's. How long to wait for something is told by `time.monotonic`.
"""

import time


def steady() -> float:
    """Seconds of a clock that never steps, and goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
