"""What `outboxd check` asks of a database. Changes nothing."""

import time
from dataclasses import dataclass

import psycopg

from outboxd.db.privilege import needs
from outboxd.db.query import query
from outboxd.db.refusal import reason
from outboxd.db.session import connect, pooled
from outboxd.errors import DatabaseError


@dataclass(frozen=True, slots=True)
class Facts:
    """A server as it is now; `clock_ahead` is its clock minus ours, in seconds; `pooled`: somebody stands between."""

    version: int
    standby: bool
    clock_ahead: float
    pooled: bool


def facts(url: str) -> Facts:
    """Connect and ask. Raises `DatabaseError` with the reason."""
    try:
        with connect(url, "check") as conn:
            asked = time.time()
            row = conn.execute(query("schema/facts")).fetchone()
            middle = (asked + time.time()) / 2
            between = pooled(conn)
    except psycopg.Error as error:
        raise DatabaseError(f"cannot reach the database: {reason(error)}") from None
    assert row is not None
    return Facts(row[0], row[1], row[2] - middle, between)


def pauses(url: str) -> list[str]:
    """What is not asked for at present, one line each. Raises `DatabaseError`."""
    try:
        with connect(url, "check") as conn:
            return [
                f"{kind} {key} since {since:%Y-%m-%d %H:%M}{f' until {until:%Y-%m-%d %H:%M}' if until else ''}: {why}"
                for kind, key, why, since, until in conn.execute(query("schema/pauses")).fetchall()
            ]
    except psycopg.Error as error:
        raise DatabaseError(f"cannot read the pauses: {reason(error)}") from None


def hears(listen_url: str, url: str, *, within: float = 2.0) -> bool:
    """Whether a NOTIFY through `url` reaches a LISTEN through `listen_url`; never tried through a pooler.

    A LISTEN there would stay with a backend that somebody else gets next. Raises `DatabaseError` where one of them
    cannot be reached.
    """
    try:
        with connect(listen_url, "check listener") as listener, connect(url, "check") as speaker:
            if pooled(listener):
                return False
            listener.execute("listen outboxd_check")
            speaker.execute("notify outboxd_check")
            return bool(list(listener.notifies(timeout=within, stop_after=1)))
    except psycopg.Error as error:
        raise DatabaseError(f"cannot listen: {reason(error)}") from None


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
