"""Pauses: what must not be asked for, by kind and key, shared by all daemons and people.

A claim finds nothing while its account is paused, closed queues and lanes are not looked at, and what was claimed
before is checked against `active` within a second. A pause of ours has probes: `take_probe` gives each to one daemon.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from psycopg import Cursor
from psycopg.rows import TupleRow

from outboxd.db.query import query
from outboxd.db.session import Connection, LockTimeoutError, path_settings

Paused = frozenset[tuple[str, str]]
MOMENT: Final = timedelta(seconds=0.1)  # patience where it is tried again soon
PATIENCE: Final = timedelta(seconds=1)  # for a lock that an operator's transaction may hold


@contextmanager
def briefly(conn: Connection, patience: timedelta = PATIENCE) -> Iterator[None]:
    """A transaction of its own, or a savepoint, that raises `LockTimeoutError` where somebody holds what it waits for."""
    with conn.transaction():
        path_settings(conn)
        conn.execute("select set_config('lock_timeout', %s, true)", (f"{patience.total_seconds()}s",))
        yield


@dataclass(frozen=True, slots=True)
class Probe:
    """One email may be asked although this is paused. `detail` is what the provider said when it began.

    `number`: which one of an open breaker it is, from 1; 0 for a pause's. `every`: a pause's interval when it was taken.
    """

    kind: str
    key: str
    reason: str
    detail: str | None = None
    number: int = 0
    every: timedelta | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Active:
    """One pause, or a breaker that is open. `since` and `until` are ISO 8601; `until` None: no end is known."""

    kind: str
    key: str
    ends_in: float | None
    reason: str
    since: str
    until: str | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A read that may still be on its way in a pipeline."""

    cursor: Cursor[TupleRow]

    def read(self) -> Paused:
        """The (kind, key) of every active pause."""
        return frozenset((row[0], row[1]) for row in self.cursor.fetchall())

    def read_all(self) -> list[Active]:
        """The same, with what people want to know."""
        return [Active(*row) for row in self.cursor.fetchall()]


def active(conn: Connection, *, now: datetime | None = None) -> Reading:
    """Ask for the active pauses, within a transaction or pipeline of the caller's."""
    return Reading(conn.execute(query("pause/active"), {"now": now}, prepare=True))


def begin(
    conn: Connection,
    kind: str,
    key: str,
    *,
    reason: str,
    detail: str,
    lasts: timedelta | None,
    probe_every: timedelta | None,
    now: datetime | None = None,
) -> bool:
    """Pause it for every daemon; False where it is paused already, and stays as it is."""
    values = {
        "kind": kind, "key": key, "reason": reason, "detail": detail, "lasts": lasts, "probe_every": probe_every,
        "by": "outboxd", "now": now,
    }  # fmt: skip
    with briefly(conn):
        return conn.execute(query("pause/set"), values).fetchone() is not None


def take_probe(conn: Connection, account: str, *, now: datetime | None = None) -> Probe | None:
    """The probe that is due, if this daemon is the first to take it."""
    with conn.transaction():
        path_settings(conn)
        row = conn.execute(query("pause/probe"), {"account": account, "now": now}).fetchone()
    if row is None:
        return None
    kind, key, reason, detail, every = row
    return Probe(kind, key, reason, detail, every=every)


def release_probe(conn: Connection, probe: Probe) -> None:
    """Give a probe back that asked for nothing: it is due again now, and its pause's interval as it was."""
    with briefly(conn):
        conn.execute(query("pause/release_probe"), {"kind": probe.kind, "key": probe.key})


def put_off_probe(conn: Connection, probe: Probe) -> None:
    """The probe found nothing that it could ask for: the next is due when it was, and the one after it no later for it.

    Not where somebody's transaction holds the pause.
    """
    values = {"kind": probe.kind, "key": probe.key, "every": probe.every}
    with suppress(LockTimeoutError), briefly(conn):
        conn.execute(query("pause/put_off_probe"), values)


def lift(conn: Connection, paused: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """End pauses that were ours and turned out to be over; which of them were still there."""
    with briefly(conn):
        return [
            (kind, key)
            for kind, key in sorted(paused)
            if conn.execute(query("pause/lift"), {"kind": kind, "key": key}).fetchone()
        ]


def probe_now(conn: Connection, account: str) -> None:
    """Let the account's pause, and domains', be probed at once: its key was changed."""
    with briefly(conn, MOMENT):
        conn.execute(query("pause/probe_now"), {"account": account})


def lane(conn: Connection, kind: str, key: str, *, closed_until: datetime | None = None) -> int:
    """The lane in which emails of this thing wait; nothing in it is looked at before `closed_until`."""
    values = {"kind": kind, "key": key, "closed_until": closed_until}
    row = conn.execute(query("lane/ensure"), values).fetchone()
    assert row is not None
    return int(row[0])
