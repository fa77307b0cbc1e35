"""What `outboxd check` asks of a database. Changes nothing."""

import time
from dataclasses import dataclass

import psycopg

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
    except psycopg.OperationalError as error:
        raise DatabaseError(f"cannot reach the database: {reason(error)}") from None
    assert row is not None
    return Facts(row[0], row[1], row[2] - middle, between)


def hears(url: str, *, within: float = 2.0) -> bool:
    """Whether a NOTIFY through one connection reaches a LISTEN on another; never tried through a pooler.

    A LISTEN there would stay with a backend that somebody else gets next.
    """
    with connect(url, "check listener") as listener, connect(url, "check") as speaker:
        if pooled(listener):
            return False
        listener.execute("listen outboxd_check")
        speaker.execute("notify outboxd_check")
        return bool(list(listener.notifies(timeout=within, stop_after=1)))
