"""Sockets that keep a deadline and a byte budget; the floor under the transport.

httpx and httpcore bound each single read and write, so a peer that drips one byte at a time holds a thread for
as long as it likes. Here every wait is cut to what is left of the exchange, name look-up included, and an answer
that grows past its cap is broken off. One `Exchange` belongs to one thread and is begun anew for each request.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Final

import httpcore

MAX_ANSWER_BYTES: Final = 64 * 1024  # of one answer as it comes off the wire, headers and framing included
TOGETHER: Final = 64 * 1024  # bytes of a request that leave in one write; more is not worth the copy


class Exchange:
    """What one request may still use, and what has happened to it so far."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.begin()

    def begin(self, *, secure: bool = False, at_most: float | None = None) -> None:
        """Start the clock of the next request. `secure`: its bytes leave under TLS only, whoever else is spoken to.

        `at_most`: seconds, where it gets less time than a request has.
        """
        self.secure = secure
        self.wrote = False  # whether a byte of the request may have left
        self.received = bytearray()
        self._allowed = self._seconds if at_most is None else min(self._seconds, at_most)
        self._ends = time.monotonic() + self._allowed

    def left(self, at_most: float | None, expired: type[Exception]) -> float:
        """Seconds that one wait may take; raises `expired` if none are left."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise expired(f"the deadline of {self._allowed:g} s has passed")
        return left if at_most is None else min(left, at_most)

    def receive(self, data: bytes) -> bytes:
        """Count what came in."""
        self.received += data
        if len(self.received) > MAX_ANSWER_BYTES:
            raise httpcore.ReadError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        return data

    def ends_with(self, body: bytes) -> bool:
        """Whether nothing came after this answer's body, so that the connection can carry another request.

        Bytes left over would be read as the answer to the next request. In doubt the answer is no.
        """
        if self.received.find(b"HTTP/1.", 1) >= 0:
            return False
        return self.received.endswith((body or b"\r\n\r\n", b"\r\n0\r\n\r\n"))


class BoundedStream(httpcore.NetworkStream):
    """A connected socket under an exchange. Errors are httpcore's.

    What is written waits for more, and leaves before the next read: a request's head and a small body are one packet
    and one TLS record, and wake the other side once.
    """

    def __init__(self, inner: httpcore.NetworkStream, exchange: Exchange, *, encrypted: bool = False) -> None:
        self._inner = inner
        self._exchange = exchange
        self._encrypted = encrypted
        self.ahead = False  # encrypted before httpcore asked for it
        self._socket: socket.socket = inner.get_extra_info("socket")
        self._pending = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What is there, at most `max_bytes`; empty at the end of the stream."""
        if self._pending:
            with contextlib.suppress(httpcore.WriteError):  # who refuses the rest may have answered
                self._flush(timeout)
        self._socket.settimeout(self._exchange.left(timeout, httpcore.ReadTimeout))
        try:
            data = self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        return self._exchange.receive(data)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of it, now or before the next read; a peer that takes it slowly gets no more time than the exchange has."""
        if len(self._pending) + len(buffer) <= TOGETHER:
            self._pending += buffer
            return
        self._flush(timeout)
        self._send(buffer, timeout)

    def _flush(self, timeout: float | None) -> None:
        pending, self._pending = self._pending, b""
        self._send(pending, timeout)

    def _send(self, data: bytes, timeout: float | None) -> None:
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(self._exchange.left(timeout, httpcore.WriteTimeout))
            if self._encrypted or not self._exchange.secure:  # else it only asks a proxy for the way
                self._exchange.wrote = True
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError as error:
                raise httpcore.WriteTimeout(str(error)) from error
            except OSError as error:
                raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        """Close the socket."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "BoundedStream":
        """The stream under TLS; a handshake writes nothing of the request, and a proxy's word is no part of the answer."""
        if self.ahead:
            self.ahead = False
            return self
        seconds = self._exchange.left(timeout, httpcore.ConnectTimeout)
        inner = self._inner.start_tls(ssl_context, server_hostname, seconds)
        self._exchange.received.clear()
        return BoundedStream(inner, self._exchange, encrypted=True)

    def secured_ahead(self, ssl_context: ssl.SSLContext, host: str, seconds: float) -> "BoundedStream":
        """The stream under TLS now; `start_tls`, when it comes, has nothing left to do."""
        stream = self.start_tls(ssl_context, host, seconds)
        stream.ahead = True
        return stream

    def is_usable(self) -> bool:
        """Whether the other side has neither spoken unasked nor hung up; tickets of TLS say nothing to us."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def get_extra_info(self, info: str) -> object:
        """Ask the socket's own stream."""
        return self._inner.get_extra_info(info)


class BoundedBackend(httpcore.NetworkBackend):
    """Connects within the exchange: look-up and all addresses of the host share the time."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._sockets = httpcore.SyncBackend()
        self._resolver = Resolver()
        self._ready: BoundedStream | None = None
        self._ready_since = 0.0

    def prepare(self, host: str, port: int, ssl_context: ssl.SSLContext | None, seconds: float) -> None:
        """Connect ahead: the next `connect_tcp` takes this connection, with TLS where there is a context."""
        self.forget()
        self._ready_since = time.monotonic()
        stream = self._connected(host, port, seconds)
        try:
            self._ready = stream.secured_ahead(ssl_context, host, seconds) if ssl_context else stream
        except BaseException:
            stream.close()
            raise

    def is_ready(self, within: float) -> bool:
        """Whether a connection was prepared in these last seconds that nobody took and that still stands."""
        fresh = time.monotonic() < self._ready_since + within
        return self._ready is not None and fresh and self._ready.is_usable()

    def forget(self) -> None:
        """Close what was prepared."""
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.close()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """What was prepared, or a connection to the first address that answers."""
        ready, self._ready = self._ready, None
        return ready or self._connected(host, port, timeout, local_address, socket_options)

    def _connected(
        self,
        host: str,
        port: int,
        timeout: float | None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> "BoundedStream":
        """To the first address that answers; an address that swallows packets leaves time for others."""
        seconds = self._exchange.left(timeout, httpcore.ConnectTimeout)
        ends = time.monotonic() + seconds
        addresses = self._resolver.addresses(host, port, seconds)
        failure: Exception = httpcore.ConnectTimeout("no time was left to connect")
        for tried, address in enumerate(addresses):
            share = (ends - time.monotonic()) / (len(addresses) - tried)
            if share <= 0:
                break
            try:
                inner = self._sockets.connect_tcp(address, port, share, local_address, socket_options)
                return BoundedStream(inner, self._exchange)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class Resolver:
    """Name look-ups that end in time. getaddrinfo has no time-out, so a thread does it and may be left behind.

    One look-up at a time: the next caller waits for the one left behind instead of starting another.
    """

    def __init__(self) -> None:
        self._running: Future[list[str]] | None = None

    def addresses(self, host: str, port: int, seconds: float) -> list[str]:
        """The host's addresses in the system's order of preference."""
        lookup = self._running = self._running or _started(host, port)
        try:
            found = lookup.result(seconds)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no answer from DNS for {host}") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host}: {error}") from error
        finally:
            if lookup.done():
                self._running = None
        return found


def _started(host: str, port: int) -> Future[list[str]]:
    lookup: Future[list[str]] = Future()
    try:
        threading.Thread(target=_look_up, args=(lookup, host, port), daemon=True).start()
    except RuntimeError as error:
        raise httpcore.ConnectError(f"no thread for the look-up: {error}") from error
    return lookup


def _look_up(lookup: Future[list[str]], host: str, port: int) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        lookup.set_result(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
    except Exception as error:  # noqa: BLE001 - it belongs to the thread that waits
        lookup.set_exception(error)
