"""A provider made of one socket: each connection runs a script, so that it can misbehave byte by byte."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from certificates import SECRET

from outboxd.resend.client import Client


class Peer:
    """Listens on 127.0.0.1; `script(peer, connection)` is run once per connection, in a thread of its own."""

    def __init__(
        self, script: Callable[["Peer", "Connection"], None], tls: ssl.SSLContext | None = None
    ) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.ready = 0  # of them: may be spoken to
        self.stopped = threading.Event()
        self.ended = threading.Semaphore(0)  # one for each script that came to its end
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(0.05)
        with contextlib.suppress(OSError), sock:
            if self._tls:
                sock.settimeout(5)
                sock = self._tls.wrap_socket(sock, server_side=True)
                sock.settimeout(0.05)
            self.ready += 1
            with sock:
                self._script(self, Connection(self, sock))
        self.ended.release()


class Connection:
    """One accepted connection."""

    def __init__(self, peer: Peer, sock: socket.socket) -> None:
        self._peer = peer
        self._sock = sock

    def read_request(self) -> bytes | None:
        """One whole request, or None once the client has closed or the test is over."""
        data = b""
        while not _is_whole(data):
            if self._peer.stopped.is_set():
                return None
            try:
                received = self._sock.recv(65536)
            except TimeoutError:
                continue
            if not received:
                return None
            data += received
        self._peer.requests.append(data)
        return data

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def drip(self, data: bytes, every: float) -> None:
        """A byte at a time, until the client gives up or the test is over."""
        for position in range(len(data)):
            self.send(data[position : position + 1])
            if self._peer.stopped.wait(every):
                return

    def hold(self) -> None:
        """Keep the connection open and say nothing."""
        self._peer.stopped.wait()

    def reset(self) -> None:
        """Close with RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    lengths = [
        line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    ]
    return len(body) >= int(lengths[0] if lengths else 0)


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Starts peers; they end with the test."""
    with contextlib.ExitStack() as started:

        def start(script: Callable[[Peer, Connection], None], tls: ssl.SSLContext | None = None) -> Peer:
            new = Peer(script, tls)
            started.callback(new.stop)
            return new

        yield start


@pytest.fixture
def client_for() -> Iterator[Callable[..., Client]]:
    """Makes clients; they are closed with the test."""
    with contextlib.ExitStack() as opened:

        def make(
            url: str, *, seconds: float = 5, tls: ssl.SSLContext | None = None, secret: str = SECRET
        ) -> Client:
            client = Client(
                url,
                lambda: secret,
                deadline=timedelta(seconds=seconds),
                ssl_context=tls or ssl.create_default_context(),
            )
            opened.callback(client.close)
            return client

        yield make
