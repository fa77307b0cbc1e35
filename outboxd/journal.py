"""Log entries with fields, straight into systemd's journal.

The native protocol rather than `<N>` prefixes on standard error: fields can be searched (`journalctl OUTBOXD_UID=…`),
and an exception of many lines stays one entry. It costs one datagram per entry and no dependency. An entry that the
journal does not take is dropped: logging must not stop the sending.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

SOCKET: Final = "/run/systemd/journal/socket"


def is_stream(environ: Mapping[str, str], descriptor: int) -> bool:
    """Whether this descriptor is the journal's: `JOURNAL_STREAM` names device and inode of what it was at the start."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Journal:
    """The way to the journal. `send` is for any thread."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)

    def send(self, fields: Mapping[str, str]) -> None:
        """One entry."""
        entry = b"".join(_encoded(name, value) for name, value in fields.items())
        with contextlib.suppress(OSError):
            self._socket.sendto(entry, self._path)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def field_name(name: str) -> str:
    """A name as the journal takes it: capitals, digits and underscores, ours by its prefix."""
    return "OUTBOXD_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()


def _encoded(name: str, value: str) -> bytes:
    """`NAME=value` on a line; what has line breaks goes with its length in 8 bytes, little-endian."""
    data = value.encode("utf-8", "replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
