"""Memory that is free goes back to the system."""

import mmap
import platform
from pathlib import Path

from outboxd.memory import trim

MB = 2**20


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_what_is_free_between_what_is_in_use_is_given_back():
    chunks = [bytes(60_000) for _ in range(500)]
    kept = chunks[::10]
    full = resident()
    del chunks
    assert resident() > full - 5 * MB, "the C library gives it back by itself"
    given_back = trim()
    assert given_back == (platform.libc_ver()[0] == "glibc")
    assert not given_back or resident() < full - 15 * MB
    assert len(kept) == 50
