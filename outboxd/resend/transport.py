"""The way to the provider for one thread: one connection, a total deadline and a cap on the answer.

Guarantees: an exchange ends within its deadline; at most 64 KiB of an answer are read, and never decompressed;
nothing is followed, nothing is taken from the environment. The connection is kept alive between requests and
dropped after any error, and after an answer that leaves bytes behind. `wrote` tells, after an error, whether a byte
of the request may have left: if not, it was certainly not sent.

httpcore's pool, without httpx around it: httpx's requests and responses cost a tenth of the exchange, its client more
than the exchange itself, and its import, which brings a command line, a fifth of the daemon's start.
"""

import ssl
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import h11
import httpcore

from outboxd.errors import OutboxdError
from outboxd.resend.network import BoundedBackend, Exchange

CONNECT_SECONDS: Final = 5.0  # look-up, connect and TLS handshake get no more each
AHEAD_SECONDS: Final = (
    4.0  # all of them, where nothing is asked yet: what waits is put back after 5 at the earliest
)
SURELY_OPEN: Final = 1.0  # seconds after an answer in which a connection is not looked at
ENOUGH: Final = 1.0  # seconds that a connection must still be kept, so that it is there at the request
FAILS_FOR: Final = 1.0  # seconds in which who could not be reached is not tried again
KEEP_ALIVE_SECONDS: Final = (
    30.0  # less than edges keep idle connections, so that we rarely write into a closed one
)

NEVER: Final = float("-inf")  # as a time
_AS_IT_IS: Final = "%/:?@!$&'()*+,;="  # what a path and a query may hold
_PORTS: Final = {"http": 80, "https": 443}

_NETWORK_ERRORS: Final = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    h11.ProtocolError,
    OSError,
)

Headers = Sequence[tuple[bytes, bytes]]


class NoAnswerError(OutboxdError):
    """What went wrong on the network; the message begins with the error's own name."""


def _told(error: BaseException) -> str:
    """The error's words; where a certificate is said to be of tomorrow, mostly a clock is of yesterday."""
    words = f"{type(error).__name__}: {error}"
    return words.replace("is not yet valid", "is not yet valid (is this machine's clock right?)")


class Transport:
    """One thread's way to the provider. Raises `NoAnswerError` for whatever goes wrong on the network."""

    def __init__(self, *, deadline: timedelta, ssl_context: ssl.SSLContext, proxy: str | None = None) -> None:
        seconds = deadline.total_seconds()
        self._exchange = Exchange(seconds)
        self._asking_since: float | None = None
        self._connect_seconds = min(CONNECT_SECONDS, seconds)
        self._extensions = {"timeout": {"connect": self._connect_seconds, "pool": seconds}}
        self._backend = BoundedBackend(self._exchange)
        self._tls = ssl_context
        self._direct = not proxy
        self._answered_at = NEVER
        self._unreachable: NoAnswerError | None = None
        self._failed_at = 0.0
        self.connected_in = 0.0  # seconds that the last `connect` took
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=1,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=self._backend,
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

    def connect(self, url: httpcore.URL) -> None:
        """Be connected before something is asked for, so that it is not late by that. Fails as the next `post`.

        Through a proxy it is `post` that connects: the way through it belongs to the exchange.
        """
        self.connected_in = 0.0
        began = time.monotonic()
        if self._unreachable is not None and began < self._failed_at + FAILS_FOR:
            return
        self._unreachable = None
        if not self._direct or self._is_connected():
            return
        self.close()
        secure = url.scheme == b"https"
        self._exchange.begin(secure=secure, at_most=AHEAD_SECONDS)
        self._asking_since = began
        try:
            port = url.port or _PORTS[url.scheme.decode()]
            tls = self._tls if secure else None
            self._backend.prepare(url.host.decode(), port, tls, self._connect_seconds)
        except _NETWORK_ERRORS as error:
            self._unreachable = NoAnswerError(_told(error))
            self._failed_at = time.monotonic()
        finally:
            self._asking_since = None
            self.connected_in = time.monotonic() - began

    def _is_connected(self) -> bool:
        idle = time.monotonic() - self._answered_at
        if idle < SURELY_OPEN:
            return True
        if idle < KEEP_ALIVE_SECONDS - ENOUGH and any(
            not (one.is_closed() or one.has_expired()) for one in self._pool.connections
        ):
            return True
        return self._backend.is_ready(KEEP_ALIVE_SECONDS - ENOUGH)

    def post(self, url: httpcore.URL, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        """The answer, complete, whatever its status: that, its headers and its body as they came."""
        unreachable, self._unreachable = self._unreachable, None
        if unreachable is not None:
            raise unreachable
        self._exchange.begin(secure=url.scheme == b"https")
        self._asking_since = time.monotonic()
        kept = False
        try:
            answer = self._pool.handle_request(
                httpcore.Request(
                    b"POST",
                    url,
                    headers=[
                        (b"Host", _host(url)),
                        *headers,
                        (b"Content-Length", b"%d" % len(body)),
                        (b"Accept-Encoding", b"identity"),
                    ],
                    content=body,
                    extensions=self._extensions,
                )
            )
            try:
                received = answer.read()
            finally:
                answer.close()
            kept = self._exchange.ends_with(received)
        except _NETWORK_ERRORS as error:
            raise NoAnswerError(_told(error)) from error
        finally:
            self._asking_since = None
            if not kept:
                self.close()
            self._answered_at = time.monotonic() if self._pool.connections else NEVER
        return answer.status, answer.headers, received

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()
        self._backend.forget()
        self._answered_at = NEVER


def target(address: str) -> httpcore.URL:
    """An address as the bytes that travel."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    path = quote(parts.path or "/", safe=_AS_IT_IS)
    return httpcore.URL(
        scheme=parts.scheme.encode(),
        host=host.encode("ascii" if host.isascii() else "idna"),
        port=None if parts.port == _PORTS.get(parts.scheme) else parts.port,
        target=(f"{path}?{quote(parts.query, safe=_AS_IT_IS)}" if parts.query else path).encode(),
    )


def _host(url: httpcore.URL) -> bytes:
    host = b"[%b]" % url.host if b":" in url.host else url.host
    return host if url.port is None else b"%b:%d" % (host, url.port)


def _proxy(address: str) -> httpcore.Proxy:
    parts = urlsplit(address)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore.Proxy(target(address), auth=auth)
