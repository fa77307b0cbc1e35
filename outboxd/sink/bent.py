"""Answers that break HTTP, or bend it, as the bytes that a well-behaved server would not send.

Each is the whole of what its connection says: it is closed behind it.
"""

import gzip
from collections.abc import Callable, Mapping
from typing import Final

from outboxd.sink.reply import Reply


def _head(reply: Reply, *more: str, version: str = "1.1") -> bytes:
    told = [f"{name}: {value}" for name, value in reply.headers.items()]
    lines = [f"HTTP/{version} {reply.status} OK", f"content-type: {reply.content_type}", *told, *more, "", ""]
    return "\r\n".join(lines).encode()


def _sized(reply: Reply) -> bytes:
    return _head(reply, f"content-length: {len(reply.body)}") + reply.body


def _zipped(reply: Reply) -> bytes:
    body = gzip.compress(reply.body, mtime=0)
    return _head(reply, "content-encoding: gzip", f"content-length: {len(body)}") + body


def _chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


BENT: Final[Mapping[str, Callable[[Reply], bytes]]] = {
    "no-http": lambda _: b"\x15\x03\x03\x00\x02\x02\x50 this is not HTTP\r\n\r\n",
    "http10": lambda reply: _head(reply, version="1.0") + reply.body,
    "early-hints": lambda reply: b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n" + _sized(reply),
    "two-lengths": lambda reply: (
        _head(reply, "content-length: 5", "transfer-encoding: chunked") + _chunked(reply.body)
    ),
    "bad-chunk": lambda reply: _head(reply, "transfer-encoding: chunked") + b"zz\r\n" + reply.body,
    "gzip": _zipped,
}
