"""An HTTP transport whose requests end: a total deadline, and a cap on what is read.

httpx's time-outs are per read, so an answer that drips lives for ever. Here every connect, read and write gets what
is left of the request's one deadline, and the bytes of an answer are counted where they arrive, headers included.
One connection, for one thread; dropped after any error, so that no answer can belong to another request.
"""

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import httpcore
import httpx

MOST_BYTES: Final = 64 * 1024


class DeadlineError(httpcore.TimeoutException):
    """The request's total time is over."""


class TooLargeError(httpcore.ProtocolError):
    """The answer has more bytes than any honest one."""


@dataclass(slots=True)
class Budget:
    """What the current request may still use; `wrote` tells whether any byte of it may have left."""

    deadline: float = 0.0
    bytes_left: int = MOST_BYTES
    wrote: bool = False

    def begin(self, seconds: float) -> None:
        """A new request."""
        self.deadline = time.monotonic() + seconds
        self.bytes_left = MOST_BYTES
        self.wrote = False

    def rest(self) -> float:
        """Seconds left. Raises `DeadlineError` where there are none."""
        rest = self.deadline - time.monotonic()
        if rest <= 0:
            raise DeadlineError("the request's deadline passed")
        return rest

    def spend(self, received: int) -> None:
        """Count bytes of the answer. Raises `TooLargeError`."""
        self.bytes_left -= received
        if self.bytes_left < 0:
            raise TooLargeError(f"the answer has more than {MOST_BYTES} bytes")


class Stream(httpcore.NetworkStream):
    """A connection whose reads and writes obey the budget."""

    def __init__(self, inner: httpcore.NetworkStream, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read, within the deadline and the cap."""
        del timeout
        data = self._inner.read(max_bytes, self._budget.rest())
        self._budget.spend(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write, within the deadline."""
        del timeout
        rest = self._budget.rest()
        self._budget.wrote = True
        self._inner.write(buffer, rest)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Hand-shake, within the deadline."""
        del timeout
        return Stream(self._inner.start_tls(ssl_context, server_hostname, self._budget.rest()), self._budget)

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows, such as whether the peer has closed it."""
        return self._inner.get_extra_info(info)


class Backend(httpcore.NetworkBackend):
    """Opens connections within the budget's deadline."""

    def __init__(self, budget: Budget) -> None:
        self._inner = httpcore.SyncBackend()
        self._budget = budget

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect; what is left of the deadline is all it gets."""
        del timeout
        inner = self._inner.connect_tcp(host, port, self._budget.rest(), local_address, socket_options)
        return Stream(inner, self._budget)


class Transport(httpx.BaseTransport):
    """httpx's shape over one httpcore connection. Follows nothing, decodes nothing, reads no environment."""

    def __init__(self, ssl_context: ssl.SSLContext, *, deadline: float) -> None:
        self._ssl_context = ssl_context
        self._deadline = deadline
        self.budget = Budget()
        self._pool = self._new_pool()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request, one whole answer. Raises httpcore's errors as they are."""
        self.budget.begin(self._deadline)
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        wire = httpcore.Request(request.method, target, headers=request.headers.raw, content=request.content)
        try:
            answer = self._pool.handle_request(wire)
            body = answer.read()
            answer.close()
        except BaseException:
            self.close()
            self._pool = self._new_pool()
            raise
        return httpx.Response(answer.status, headers=answer.headers, stream=httpx.ByteStream(body))

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()

    def _new_pool(self) -> httpcore.ConnectionPool:
        return httpcore.ConnectionPool(
            ssl_context=self._ssl_context, max_connections=1, network_backend=Backend(self.budget)
        )
