"""A TCP proxy that can fall silent: connections stay open and are acknowledged, but nothing passes any more."""

import contextlib
import select
import socket
import threading
from urllib.parse import urlsplit, urlunsplit


class StallingProxy:
    """Forwards to a server, which may be on a Unix socket; `stall` silences the connections that are open, new ones are served.

    The first `cuts` connections in which the client says `cut_at` end there, or get `garbage` before the answer.
    """

    def __init__(
        self, host: str, port: int, *, cut_at: bytes = b"", cuts: int = 0, garbage: bytes = b""
    ) -> None:
        self.cuts_left = cuts
        self._cut_at = cut_at
        self._garbage = garbage
        self._target = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._mutex = threading.Lock()
        self._silent: set[int] = set()
        self._open: dict[int, tuple[socket.socket, socket.socket]] = {}
        self._kept: list[socket.socket] = []
        self._accepted = 0
        self.stopped = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        """The database's URL, through this proxy."""
        parts = urlsplit(database)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{self.port}", query=""))

    def stall(self) -> int:
        """Silence all open connections; how many."""
        with self._mutex:
            self._silent |= set(self._open)
            return len(self._open)

    def close(self) -> None:
        self.stopped.set()
        self._listener.close()
        for pair in list(self._open.values()):
            for one in pair:
                one.close()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._connect()
            with self._mutex:
                self._accepted += 1
                number = self._accepted
                self._open[number] = (client, server)
            threading.Thread(target=self._forward, args=(number, client, server), daemon=True).start()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, tuple):
            return socket.create_connection(self._target)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._target)
        return server

    def _is_cut(self, said: bytes) -> bool:
        with self._mutex:
            cut = self.cuts_left > 0 and self._cut_at in said
            self.cuts_left -= cut
            return cut

    def _forward(self, number: int, client: socket.socket, server: socket.socket) -> None:
        """Until one side ends; a silenced pair stays open, both ways, to the end of the test."""
        with contextlib.suppress(OSError, ValueError):
            while not self.stopped.is_set():
                readable, _, _ = select.select([client, server], [], [], 0.05)
                if number in self._silent:
                    self.stopped.wait()
                    return
                for one in readable:
                    data = one.recv(65536)
                    if not data:
                        raise OSError
                    if one is client and self._is_cut(data):
                        if not self._garbage:
                            raise OSError
                        client.sendall(self._garbage)
                    (server if one is client else client).sendall(data)
        with self._mutex:
            self._open.pop(number, None)
        client.close()
        server.close()
