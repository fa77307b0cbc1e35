"""What `outboxd check` asks of a database. Changes nothing."""

import time
from dataclasses import dataclass

import psycopg

from outboxd.db.privilege import needs
from outboxd.db.query import query
from outboxd.db.refusal import reason
from outboxd.db.session import Connection, connect
from outboxd.errors import DatabaseError


@dataclass(frozen=True, slots=True)
class Facts:
    """A server as it is now; `clock_ahead` is its clock minus ours, in seconds."""

    version: int
    standby: bool
    clock_ahead: float


def facts(url: str) -> Facts:
    """Connect and ask. Raises `DatabaseError` with the reason."""
    try:
        with connect(url, "check") as conn:
            asked = time.time()
            row = conn.execute(query("schema/facts")).fetchone()
            middle = (asked + time.time()) / 2
    except psycopg.Error as error:
        raise DatabaseError(f"cannot reach the database: {reason(error)}") from None
    assert row is not None
    return Facts(row[0], row[1], row[2] - middle)


def hears(listen_url: str, url: str, *, within: float = 2.0) -> bool:
    """Whether a NOTIFY through `url` reaches a LISTEN through `listen_url`: not so through most poolers.

    Raises `DatabaseError` where one of them cannot be reached.
    """
    try:
        with connect(listen_url, "check listener") as listener, connect(url, "check") as speaker:
            listener.execute("listen outboxd_check")
            speaker.execute("notify outboxd_check")
            return bool(list(listener.notifies(timeout=within, stop_after=1)))
    except psycopg.Error as error:
        raise DatabaseError(f"cannot listen: {reason(error)}") from None


def pooled(url: str) -> bool:
    """Whether a pooler in transaction mode stands between: two connections get one server, or one gets several.

    A pooler that takes its servers in turn shows at once; with one that takes the latest, a second connection that
    keeps a transaction open either has the first one's server, or leaves the first one another.
    """
    try:
        with connect(url, "check") as one, connect(url, "check") as other:
            mine = {_backend(one) for _ in range(3)}
            with other.transaction():
                return _backend(other) in mine or len(mine | {_backend(one)}) > 1
    except psycopg.Error as error:
        raise DatabaseError(f"cannot tell whether there is a pooler: {reason(error)}") from None


def lacking(url: str) -> tuple[str, list[str]]:
    """The role that asks, and the privileges of the daemon that it lacks."""
    wanted = needs()
    try:
        with connect(url, "check") as conn:
            rows = conn.execute(
                query("schema/missing_grants"),
                {"privileges": [need[0] for need in wanted], "names": [need[1] for need in wanted]},
            ).fetchall()
            return conn.info.user, [row[0] for row in rows]
    except psycopg.Error as error:
        raise DatabaseError(f"cannot read the grants: {reason(error)}") from None


def _backend(conn: Connection) -> int:
    row = conn.execute(query("schema/backend")).fetchone()
    assert row is not None
    return int(row[0])
