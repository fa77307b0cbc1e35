"""What `outboxd check` asks of a database. Changes nothing."""

import time
from dataclasses import dataclass

import psycopg

from outboxd.core.instance import differences
from outboxd.db import fence, pause
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
            found = pause.active(conn).read_all()
    except psycopg.Error as error:
        raise DatabaseError(f"cannot read the pauses: {reason(error)}") from None
    return [
        f"{one.kind} {one.key} since {one.since}{f' until {one.until}' if one.until else ''}: {one.reason}"
        for one in sorted(found, key=lambda one: one.since)
    ]


def strange(url: str, environment: str, api_key: str) -> list[str] | None:
    """Why a daemon would only observe this database (see `fence`); None where none has run in it yet.

    Raises `DatabaseError`.
    """
    try:
        with connect(url, "check") as conn:
            here, known = fence.whereabouts(conn, environment, api_key), fence.recorded(conn)
    except psycopg.Error as error:
        raise DatabaseError(f"cannot read whose database it is: {reason(error)}") from None
    if here is None:
        return [fence.STANDBY]
    return None if known is None else list(differences(known, here).values())


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
