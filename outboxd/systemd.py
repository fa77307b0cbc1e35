"""What the service manager hears: ready, status, reloading, stopping, alive (sd_notify, without a dependency).

Without `NOTIFY_SOCKET` nothing is sent. A manager that does not listen stops nothing: a datagram that cannot be
delivered is dropped. The watchdog's interval comes from `WATCHDOG_USEC`, if it is meant for this process.
"""

import contextlib
import socket
import time
from collections.abc import Mapping
from typing import Final

FEEDS: Final = 3  # times that the watchdog is fed within its interval


class Notifier:
    """Speaks to the socket that `environ` names. All methods are for any thread."""

    def __init__(self, environ: Mapping[str, str], *, pid: int) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        if self._socket:
            self._socket.settimeout(0)
        self.watchdog = _interval(environ, pid)
        self._fed_at = 0.0
        self._said = ""

    def ready(self) -> None:
        """Started, or done with reloading."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; said once."""
        if text != self._said:
            self._said = text
            self._send(f"STATUS={text}")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` follows. The instant tells this reload from another."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The drain has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog, where there is one and it is time to."""
        now = time.monotonic()
        if self.watchdog is not None and now - self._fed_at >= self.watchdog / FEEDS:
            self._fed_at = now
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket:
            self._socket.close()
        self._socket = None

    def _send(self, message: str) -> None:
        if self._socket and self._address:
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(), self._address)


def _address(name: str) -> str | bytes | None:
    """A path, or a name in the abstract namespace (a leading @); other families are not for us."""
    if name.startswith("@"):
        return b"\0" + name[1:].encode()
    return name if name.startswith("/") else None


def _interval(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which the manager wants a sign of life; None where it wants none from this process."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        return int(environ.get("WATCHDOG_USEC", "0")) / 1_000_000 or None
    except ValueError:
        return None
