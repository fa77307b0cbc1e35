"""An httpx transport for one thread, with one connection, a total deadline and a cap on the answer.

Guarantees: an exchange ends within its deadline; at most 64 KiB of an answer are read, and never decompressed;
nothing is followed, nothing is taken from the environment. The connection is kept alive between requests and
dropped after any error, and after an answer that leaves bytes behind. `wrote` tells, after an error, whether a byte
of the request may have left: if not, it was certainly not sent.

Used directly, without an httpx.Client: a client costs more per request than the exchange itself.
"""

import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import h11
import httpcore
import httpx

from outboxd.resend.network import BoundedBackend, Exchange

CONNECT_SECONDS: Final = 5.0  # look-up, connect and TLS handshake get no more each
KEEP_ALIVE_SECONDS: Final = (
    30.0  # less than edges keep idle connections, so that we rarely write into a closed one
)

_NETWORK_ERRORS: Final = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    h11.ProtocolError,
    OSError,
)
_AS_HTTPX: Final[dict[type[Exception], type[httpx.TransportError]]] = {
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.ReadError: httpx.ReadError,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteError: httpx.WriteError,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
}


class Transport(httpx.BaseTransport):
    """One thread's way to the provider. Raises httpx.TransportError for whatever goes wrong on the network."""

    def __init__(self, *, deadline: timedelta, ssl_context: ssl.SSLContext, proxy: str | None = None) -> None:
        seconds = deadline.total_seconds()
        self._exchange = Exchange(seconds)
        self._asking_since: float | None = None
        self._extensions = {"timeout": {"connect": min(CONNECT_SECONDS, seconds), "pool": seconds}}
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=1,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=BoundedBackend(self._exchange),
            proxy=_proxy(proxy) if proxy else None,
        )

    @property
    def wrote(self) -> bool:
        """Whether a byte of the latest request may have left."""
        return self._exchange.wrote

    def asking_for(self) -> float:
        """Seconds that the present request has lasted, 0 where there is none; for any thread."""
        since = self._asking_since
        return 0.0 if since is None else time.monotonic() - since

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, complete; whatever its status. Its body is raw: read it with `iter_raw`."""
        self._exchange.begin(secure=request.url.scheme == "https")
        self._asking_since = time.monotonic()
        kept = False
        try:
            answer, body = self._ask(request)
            kept = self._exchange.ends_with(body)
        except _NETWORK_ERRORS as error:
            raise _AS_HTTPX.get(type(error), httpx.NetworkError)(str(error)) from error
        finally:
            self._asking_since = None
            if not kept:
                self._pool.close()
        return httpx.Response(answer.status, headers=answer.headers, stream=_Raw(body))

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()

    def _ask(self, request: httpx.Request) -> tuple[httpcore.Response, bytes]:
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=[*_without_encoding(request), (b"Accept-Encoding", b"identity")],
                content=request.stream,
                extensions=self._extensions,
            )
        )
        try:
            return answer, answer.read()
        finally:
            answer.close()


class _Raw(httpx.SyncByteStream):
    """A body that httpx does not decode of its own accord: 64 KiB of gzip can be 64 MiB."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body


def _proxy(address: str) -> httpcore.Proxy:
    url = httpx.URL(address)
    where = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/")
    return httpcore.Proxy(where, auth=(url.username, url.password) if url.username else None)


def _without_encoding(request: httpx.Request) -> Iterator[tuple[bytes, bytes]]:
    return ((name, value) for name, value in request.headers.raw if name.lower() != b"accept-encoding")
