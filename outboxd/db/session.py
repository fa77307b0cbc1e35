"""One connection to Postgres that comes back by itself.

Each thread of the path owns a session. A lost connection is opened again, lazily, with a pause of 50 ms × n, at most
1 s: the only retry layer there is, so that a server which accepts again is used within one pause.
Statements on the path run with the settings below: the session's where the server is reached directly, each
transaction's behind a pooler in transaction mode.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, TypeVar

import psycopg
import tenacity
from psycopg.rows import TupleRow

from outboxd import metrics
from outboxd.db.query import query
from outboxd.db.refusal import reason
from outboxd.db.watched import Watched
from outboxd.errors import DatabaseError

log = logging.getLogger(__name__)
T = TypeVar("T")
Connection = psycopg.Connection[TupleRow]
DataError = psycopg.DataError  # class 22: a value cannot be stored
LockTimeoutError = psycopg.errors.LockNotAvailable

CONNECT: Final[dict[str, Any]] = {
    "connect_timeout": 2,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 4_000,
}
RETRY_STEP: Final = 0.05
RETRY_MOST: Final = 1.0


class ConnectionLostError(DatabaseError):
    """The connection broke: whether the transaction was committed is not known."""


class StoppedError(DatabaseError):
    """The daemon stops, and there is no connection."""


def connect(url: str, name: str, *, path: bool = False) -> Watched:
    """A new connection in autocommit mode; raises `psycopg.OperationalError`.

    `path`: it runs statements of the path and nothing else, so that it keeps their settings.
    Through a pooler nothing is prepared by name and nothing is set for long: the next transaction may meet another
    backend.
    """
    try:
        conn = Watched.connect(url, autocommit=True, application_name=f"outboxd {name}", **CONNECT)
    except psycopg.ProgrammingError as error:
        raise psycopg.OperationalError(reason(error)) from None
    try:
        _set_up(conn, path=path)
    except psycopg.Error as error:
        lost = _is_lost(conn, error) and not isinstance(error, psycopg.OperationalError)
        conn.close()
        if lost:
            raise psycopg.OperationalError(reason(error)) from None
        raise
    return conn


def _set_up(conn: Watched, *, path: bool) -> None:
    if pooled(conn):
        conn.prepare_threshold = None
    elif path:
        _set_for_path(conn, local=False)
        conn.on_path = True
    else:
        conn.execute("set jit = off")  # a statement of outboxd takes less time than compiling it


def pooled(conn: Connection) -> bool:
    """Whether somebody stands between: a pooler answers the handshake with a process id of its own."""
    return conn.execute("select pg_backend_pid()").fetchone() != (conn.info.backend_pid,)


class Session:
    """A connection that is opened when needed and dropped when it breaks. For one thread."""

    def __init__(self, url: str, name: str, *, stop: threading.Event, path: bool = False) -> None:
        self._url = url
        self._name = name
        self._path = path
        self._stop = stop
        self._conn: Watched | None = None
        self.connected = threading.Event()

    def connection(self) -> Connection:
        """The open connection; waits for one as long as the daemon runs."""
        if self._conn is None or self._conn.closed:
            self._conn = self._reconnect()
            self.connected.set()
        return self._conn

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do the work on the connection. Raises `ConnectionLostError` where it broke meanwhile."""
        conn = self.connection()
        try:
            return work(conn)
        except psycopg.Error as error:
            if not _is_lost(conn, error):
                raise
            self.close()
            raise ConnectionLostError(f"{self._name}: connection lost ({type(error).__name__})") from None

    def close_if_lost(self, error: Exception) -> bool:
        """Drop the connection where `run` would have, after an error that goes no further; whether it was."""
        lost = self._conn is not None and isinstance(error, psycopg.Error) and _is_lost(self._conn, error)
        if lost:
            self.close()
        return lost

    def is_patient(self) -> bool:
        """Whether the work under way says that an answer may take its time. For any thread."""
        conn = self._conn
        return conn is not None and conn.patience > 0

    def close(self) -> None:
        """Drop the connection; the next use opens another."""
        self.connected.clear()
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

    def break_if_stalled(self, bound: float) -> None:
        """Cut the connection if the server has kept its owner waiting for longer than `bound` seconds.

        For any thread. The owner meets it as a lost connection, and opens another.
        """
        conn = self._conn
        if conn is not None and conn.break_if_stalled(bound):
            metrics.stalls.add(1, {"connection": self._name})
            log.warning(
                "a statement got no answer; connection cut",
                extra={"connection": self._name, "seconds": bound},
            )

    def _reconnect(self) -> Watched:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(psycopg.OperationalError),
            wait=lambda state: min(RETRY_STEP * state.attempt_number, RETRY_MOST),
            stop=lambda _: self._stop.is_set(),
            sleep=self._pause,
            before_sleep=self._note,
            reraise=True,
        )
        try:
            return retrying(connect, self._url, self._name, path=self._path)
        except psycopg.OperationalError as error:
            raise StoppedError(f"{self._name}: no connection ({error.sqlstate or 'refused'})") from None

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _note(self, state: tenacity.RetryCallState) -> None:
        metrics.reconnects.add(1, {"connection": self._name})
        if state.attempt_number in {1, 20} or state.attempt_number % 100 == 0:
            log.warning(
                "no connection to Postgres", extra={"connection": self._name, "attempt": state.attempt_number}
            )


def _is_lost(conn: Connection, error: psycopg.Error) -> bool:
    """Broken; or as good as that: it landed on a standby, or what came over it was not the protocol.

    libpq skips a message that it does not know, says so without an SQLSTATE and goes on, one answer behind.
    """
    garbled = type(error) is psycopg.DatabaseError and error.sqlstate is None
    return conn.closed or conn.broken or error.sqlstate == "25006" or garbled


def path_settings(conn: Connection) -> None:
    """Begin a transaction of the path.

    A claim is durable before any byte is sent, whatever the database's default. Plans are made with indexes only: a
    queue's tables were empty when they were last analysed, and a plan made or cached then must not scan a million.
    """
    if not on_path(conn):
        _set_for_path(conn, local=True)


def _set_for_path(conn: Connection, *, local: bool) -> None:
    conn.execute(query("schema/path_settings"), {"local": local}, prepare=True)


def on_path(conn: Connection) -> bool:
    """Whether the connection has the path's settings for good."""
    return isinstance(conn, Watched) and conn.on_path


def patient(conn: Connection, seconds: float) -> AbstractContextManager[None]:
    """Within this the server may take so long for one answer before the watchdog cuts the connection."""
    return conn.patient(seconds) if isinstance(conn, Watched) else nullcontext()


@contextmanager
def transaction_of_path(conn: Connection) -> Iterator[None]:
    """In a pipeline: one transaction of the path. The pipeline's own, where nothing must be set for it first."""
    if on_path(conn):
        yield
        return
    with conn.transaction():
        path_settings(conn)
        yield
