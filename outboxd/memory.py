"""Freed memory goes back to the system.

The claims of a backlog are larger than those of a trickle, and every thread has an arena of its own in glibc, which keeps
what was freed between what is in use: of a daemon that holds the same for weeks, what is resident rises all the same.
"""

import ctypes
from collections.abc import Callable
from functools import cache


def trim() -> bool:
    """Give back what the C library holds free, which takes about a millisecond; False where there was nothing, or no glibc."""
    malloc_trim = _malloc_trim()
    return malloc_trim is not None and bool(malloc_trim(0))


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
