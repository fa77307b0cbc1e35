"""The real daemon as a process of its own, for demo and development: it ends when this process ends, however that is."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from outboxd.config import environment
from outboxd.localpg import die_with_parent

DRAIN_WITHIN: Final = 30.0  # seconds


@contextmanager
def daemon_process(
    database_url: str, api_url: str, *, api_key: str, level: str, quiet: bool
) -> Iterator["subprocess.Popen[bytes]"]:
    """`outboxd run`, drained at the end. It has a session of its own, so Ctrl-C reaches us alone."""
    settings = {
        "DATABASE_URL": database_url,
        "RESEND_API_URL": api_url,
        "RESEND_API_KEY": api_key,
        "OUTBOXD_HEALTH__LISTEN": "",
        "OUTBOXD_LOG__LEVEL": level,
    }
    clean = {name: value for name, value in environment().items() if not name.startswith("OUTBOXD_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "outboxd", "run"],
        env={**clean, **settings},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if quiet else None,
        start_new_session=True,
        # Not by SIGINT, which an interpreter that is still importing may swallow.
        preexec_fn=partial(die_with_parent, signal.SIGTERM) if sys.platform == "linux" else None,  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DRAIN_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
