"""Servers that speak just enough of Postgres's protocol: a pooler in transaction mode, and one that is too old."""

import contextlib
import select
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

KEY_DATA = b"K\x00\x00\x00\x0c"  # BackendKeyData: process id, secret
NO_ENCRYPTION = {80877103, 80877104}  # requests for TLS and GSS


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def read_startup(client: socket.socket) -> bytes:
    """The startup packet, after declining encryption."""
    while True:
        head = client.recv(4, socket.MSG_WAITALL)
        packet = head + client.recv(struct.unpack("!I", head)[0] - 4, socket.MSG_WAITALL)
        if struct.unpack("!I", packet[4:8])[0] not in NO_ENCRYPTION:
            return packet
        client.sendall(b"N")


def with_own_process_id(greeting: bytes) -> bytes:
    """A pooler answers the handshake with a process id of its own, as pgbouncer does."""
    place = greeting.index(KEY_DATA) + len(KEY_DATA)
    return greeting[:place] + struct.pack("!I", 1) + greeting[place + 4 :]


class Stub(ABC):
    """Accepts connections on `port` and serves each in a thread of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        parts = urlsplit(database)
        return urlunsplit(parts._replace(netloc=f"postgres@127.0.0.1:{self.port}", query=""))

    def close(self) -> None:
        self.stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._guarded, args=(client,), daemon=True))
                self._threads[-1].start()

    def _guarded(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, struct.error):
            self.serve(client)

    @abstractmethod
    def serve(self, client: socket.socket) -> None:
        """Speak with one client until it is enough."""


class OldServer(Stub):
    """Answers every query with one row: version 14.11, no standby, a clock at the epoch."""

    def serve(self, client: socket.socket) -> None:
        read_startup(client)
        told = {"server_version": "14.11", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
        status = b"".join(message(b"S", f"{k}\0{v}\0".encode()) for k, v in told.items())
        client.sendall(message(b"R", struct.pack("!I", 0)) + status + message(b"Z", b"I"))
        columns = [(b"version", 23), (b"standby", 16), (b"now", 701)]
        described = b"".join(n + b"\0" + struct.pack("!IhIhih", 0, 0, oid, -1, -1, 0) for n, oid in columns)
        row = b"".join(struct.pack("!I", len(v)) + v for v in (b"140011", b"f", b"0"))
        answer = message(b"T", struct.pack("!h", 3) + described) + message(b"D", struct.pack("!h", 3) + row)
        while (data := client.recv(4096)) and data[:1] == b"Q":
            client.sendall(answer + message(b"C", b"SELECT 1\0") + message(b"Z", b"I"))


class Pooler(Stub):
    """Lends a server to a client for one transaction at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._target = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self._free: list[socket.socket] = []
        self._greeting = b""
        self._mutex = threading.Lock()
        super().__init__()

    def close(self) -> None:
        super().close()
        for server in self._free:
            server.close()

    def serve(self, client: socket.socket) -> None:
        startup = read_startup(client)
        self._give_back(self._lend(startup))
        client.sendall(with_own_process_id(self._greeting))
        server, tail = None, b""
        while not self.stopped.is_set():
            waiting = [client] if server is None else [client, server]
            for one in select.select(waiting, [], [], 0.05)[0]:
                data = one.recv(65536)
                if not data or (one is client and data[:1] == b"X"):
                    return
                if one is client:
                    server = server or self._lend(startup)
                    server.sendall(data)
                    continue
                tail = (tail + data)[-6:]
                if tail == message(b"Z", b"I"):
                    self._give_back(server)
                    server, tail = None, b""
                client.sendall(data)

    def _give_back(self, server: socket.socket | None) -> None:
        with self._mutex:
            if server is not None:
                self._free.append(server)

    def _lend(self, startup: bytes) -> socket.socket:
        with self._mutex:
            if self._free:
                return self._free.pop()
            if isinstance(self._target, tuple):
                server = socket.create_connection(self._target)
            else:
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
            server.sendall(startup)
            greeting = b""
            while not greeting.endswith(message(b"Z", b"I")):
                if not (came := server.recv(65536)):
                    raise OSError(f"the server refuses: {greeting!r}")
                greeting += came
            self._greeting = greeting
            return server


@contextlib.contextmanager
def running(stub: Stub) -> Iterator[Stub]:
    try:
        yield stub
    finally:
        stub.close()
