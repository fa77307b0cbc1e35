"""What `outboxd check` asks of a database. Changes nothing."""

import time
from dataclasses import dataclass

import psycopg

from outboxd.db.query import query
from outboxd.db.refusal import reason
from outboxd.db.session import connect
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
    except psycopg.OperationalError as error:
        raise DatabaseError(f"cannot reach the database: {reason(error)}") from None
    assert row is not None
    return Facts(row[0], row[1], row[2] - middle)


def hears(url: str, *, within: float = 2.0) -> bool:
    """Whether a NOTIFY through one connection reaches a LISTEN on another: not so through most poolers."""
    with connect(url, "check listener") as listener, connect(url, "check") as speaker:
        listener.execute("listen outboxd_check")
        speaker.execute("notify outboxd_check")
        return bool(list(listener.notifies(timeout=within, stop_after=1)))
