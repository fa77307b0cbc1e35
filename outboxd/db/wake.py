"""The doorbell: be woken by the INSERT that matters, at no cost to the inserts that do not.

While the claimer works, the bell's key is free, and an inserting transaction that takes it shared rings nothing. When
the claimer wants to sleep, the listener takes the key for itself, and from then on an insert that is refused the key
sends NOTIFY. No wake-up is lost: the claimer looks once more, from the head, after the key was taken.

The key may be refused. By a peer daemon that sleeps with it: inserts notify anyway, so sleep on LISTEN alone, and ask
each second whether it still has it: a peer that woke, and was killed or stands still, leaves a bell that nobody rings.
By an application's open transaction: a second connection waits for the key; its waiting makes new inserts notify, and
it is granted when that transaction ends. Latency only: with the listener dead, the claimer polls.

Through a pooler there is no bell at all: LISTEN would be accepted and hear nothing, and a session's lock would stay
with a backend that somebody else gets next. So neither is tried, and the claimer polls.
"""

import logging
import os
import select
import threading
from typing import Final, Self

import psycopg
from psycopg import pq

from outboxd.db.session import Connection, ConnectionLostError, Session, StoppedError, pooled

log = logging.getLogger(__name__)

TRY: Final = "select pg_try_advisory_lock(7101, 1)"
WAIT: Final = b"set lock_timeout = '5s'; select pg_advisory_lock(7101, 1)"
ALIVE: Final = "select true"
FREE: Final = "select pg_advisory_unlock(7101, 1)"
HELD_BY_PEER: Final = """
select exists (
  select from pg_locks
  where locktype = 'advisory' and classid = 7101 and objid = 1 and objsubid = 2 and granted
    and database = (select oid from pg_database where datname = current_database())
    and mode = 'ExclusiveLock')
"""
ROUND: Final = 5.0  # seconds between two questions whether the server is there
BESIDE: Final = 1.0  # and whether a peer still has the key


class Doorbell:
    """Arm it, look once more, wait for the ring, disarm it. `arm` and `wait` are the claimer's, `listen` a thread's."""

    def __init__(self, url: str | None, *, stop: threading.Event) -> None:
        self._stop = stop
        self._session = Session(url, "listener", stop=stop) if url else None
        self._url = url
        self._rung = threading.Event()
        self._armed = threading.Event()
        self._wanted = threading.Event()
        self._deaf = threading.Event()
        self._mutex = threading.Lock()
        self._inbox, self._outbox = os.pipe()
        os.set_blocking(self._inbox, False)
        os.set_blocking(self._outbox, False)

    def arm(self, *, within: float = 0.25) -> bool:
        """Ask to be rung. False: the listener is not ready, so keep polling."""
        self._rung.clear()
        if self._session is None or self._deaf.is_set():
            return False
        self._wanted.set()
        self._nudge()
        return self._armed.wait(within)

    def hush(self) -> None:
        """Forget that it rang: the look that follows sees what it rang for."""
        self._rung.clear()

    def wait(self, seconds: float) -> bool:
        """Sleep until the bell rings, or for that long; True where it rang."""
        return self._rung.wait(seconds)

    def disarm(self) -> None:
        """Back to work: let inserts pass without ringing."""
        with self._mutex:
            self._wanted.clear()
            self._armed.clear()
        self._nudge()

    def ring(self) -> None:
        """Wake the claimer from within this process."""
        self._rung.set()

    def close(self) -> None:
        """End the listener; for the stop."""
        self._nudge()

    def break_if_stalled(self, bound: float) -> None:
        """Cut the listener's connection if the server does not answer; for any thread."""
        if self._session is not None:
            self._session.break_if_stalled(bound)

    def listen(self) -> None:
        """The listener thread: until the daemon stops, over as many connections as that takes."""
        session = self._session
        while session is not None and not self._stop.is_set():
            try:
                session.run(self._serve)
            except ConnectionLostError:
                log.warning("listener lost its connection; polling until it is back")
            except StoppedError:
                break
            except psycopg.Error as error:
                log.warning("listener cannot listen; polling", extra={"sqlstate": error.sqlstate})
                session.close()
                self._stop.wait(2.0)
            finally:
                with self._mutex:
                    self._armed.clear()
                self._rung.set()
        if session is not None:
            session.close()

    def _serve(self, conn: Connection) -> None:
        if pooled(conn):
            self._stay_deaf()
            return
        self._deaf.clear()
        conn.execute("listen outboxd")
        while not self._stop.is_set():
            if not self._wanted.is_set():
                self._sleep([conn.fileno()], ROUND)
                if list(
                    conn.notifies(timeout=0)
                ):  # left on the socket they would keep this thread from sleeping
                    self._rung.set()
                continue
            if conn.execute(TRY).fetchone() == (True,):
                self._hear(conn, None)
                conn.execute(FREE)
            elif conn.execute(HELD_BY_PEER).fetchone() == (True,):
                self._hear(conn, None, beside=True)
            else:
                with _Waiter(self._url or "") as waiter:
                    self._hear(conn, waiter)

    def _stay_deaf(self) -> None:
        if not self._deaf.is_set():
            log.warning(
                "the listener goes through a pooler; polling (database.listen_url names the server itself)"
            )
        self._deaf.set()
        while not self._stop.is_set():
            self._sleep([], ROUND)

    def _hear(self, conn: Connection, waiter: "_Waiter | None", *, beside: bool = False) -> None:
        """Armed: sleep until a notification, the waiter's grant, or the claimer's own change of mind.

        Each round ends with a question to the server, so that a dead connection is noticed; `beside` a peer, whether that
        still has the key.
        """
        for _ in range(720):
            if not self._confirm():
                return
            sockets = [conn.fileno(), *([waiter.fileno()] if waiter else [])]
            quiet = self._sleep(sockets, BESIDE if beside else ROUND)
            answer = conn.execute(HELD_BY_PEER if beside else ALIVE).fetchone() if quiet else None
            if list(conn.notifies(timeout=0)):
                self._rung.set()
            if answer == (False,) or (waiter is not None and waiter.ended()):
                break
        with self._mutex:
            self._armed.clear()
        self._rung.set()

    def _confirm(self) -> bool:
        """Say that the bell is armed, if that is still wanted: the key is held, or waited for, all the while."""
        with self._mutex:
            if not self._wanted.is_set() or self._stop.is_set():
                return False
            self._armed.set()
            return True

    def _sleep(self, sockets: list[int], seconds: float) -> bool:
        """Wait for one of the sockets or a nudge; True where nothing came."""
        readable, _, _ = select.select([self._inbox, *sockets], [], [], seconds)
        if self._inbox in readable:
            os.read(self._inbox, 4096)
        return not readable

    def _nudge(self) -> None:
        try:
            os.write(self._outbox, b".")
        except BlockingIOError:
            return


class _Waiter:
    """A second connection that queues for the key behind an open transaction, for five seconds at a time.

    No longer: it has a snapshot, which keeps vacuum from what went since.
    """

    def __init__(self, url: str) -> None:
        self._conn = psycopg.connect(
            url, autocommit=True, application_name="outboxd waiter", connect_timeout=2
        )
        self._conn.pgconn.send_query(WAIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.ended():
            self._conn.cancel_safe(timeout=2.0)
        self._conn.close()

    def fileno(self) -> int:
        return self._conn.fileno()

    def ended(self) -> bool:
        """Whether the key was granted, or the time is over: either way, look again."""
        pgconn = self._conn.pgconn
        if pgconn.status != pq.ConnStatus.OK:
            return True
        pgconn.consume_input()
        while not pgconn.is_busy():
            if pgconn.get_result() is None:
                return True
        return False
