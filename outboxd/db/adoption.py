"""`outboxd adopt`: make a copied or restored database our own, and decide about the mail that waits in it.

Where the database is not the one that was recorded, all that waits is decided about, and what the original had in hand
first comes back (its leases last at most a minute). Where it is, only what is held back is. Nothing is sent before
the last lot is done; run again after a crash, it goes on.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import psycopg

from outboxd.core.instance import differences
from outboxd.db import lease
from outboxd.db.fence import (
    HELD,
    HELD_UNTIL,
    HOLDING,
    STANDBY,
    hold,
    newest,
    note_rise,
    recorded,
    values,
    whereabouts,
)
from outboxd.db.query import query
from outboxd.db.refusal import reason
from outboxd.db.session import Connection, connect
from outboxd.errors import DatabaseError

Pending = Literal["send", "discard", "hold"]
LOT: Final = 10_000  # rows moved in one statement
LEASES_END: Final = 70  # seconds


@dataclass(frozen=True, slots=True)
class Adopted:
    """`reasons` says in what the database differed; `emails` how many were released, discarded or held."""

    reasons: tuple[str, ...]
    emails: int


def adopt(
    url: str, pending: Pending, *, environment: str, api_key: str, note: Callable[[str], None]
) -> Adopted:
    """Adopt the database behind `url`. Raises `DatabaseError`. `note` hears of progress."""
    try:
        with connect(url, "adopt") as conn:
            return _adopt(conn, pending, environment, api_key, note)
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseError(f"{error.diag.message_primary}: adopt with the daemon's role") from None
    except psycopg.errors.UndefinedTable:
        raise DatabaseError(
            "outboxd's schema is old or not in this database: run `outboxd migrate`"
        ) from None
    except psycopg.OperationalError as error:
        raise DatabaseError(f"cannot reach the database: {reason(error)}") from None


def _adopt(
    conn: Connection, pending: Pending, environment: str, api_key: str, note: Callable[[str], None]
) -> Adopted:
    here = whereabouts(conn, environment, api_key)
    if here is None:
        raise DatabaseError(f"{STANDBY}: adopt on the primary")
    known = recorded(conn)
    foreign = differences(known, here) if known else {"instance": "no daemon was ever here"}
    if foreign and pending != "send":
        _await_leases(conn, note)
    if known and not foreign and (here.timeline or 0) > (known.timeline or 0):
        _end_holding(conn, pending, here.timeline or 0)
    emails = _decide(conn, pending, foreign=foreign)
    if foreign:
        conn.execute(query("instance/adopt"), values(here))
    conn.execute(query("instance/ring"))
    return Adopted(tuple(foreign.values()), emails)


def _end_holding(conn: Connection, pending: Pending, timeline: int) -> None:
    """A daemon is still holding back what was due at a failover, or will: it would take again what is let go meanwhile."""
    if pending == "discard":
        raise DatabaseError(f"{HOLDING}: discard it when a daemon's log says that it is")
    if pending == "send":
        note_rise(conn, timeline)


def _decide(conn: Connection, pending: Pending, *, foreign: Mapping[str, str]) -> int:
    last_id = newest(conn)
    match pending:
        case "send":
            conn.execute(query("instance/release_batches"), {"until": HELD_UNTIL})
            return _in_lots(conn, query("instance/release"), {"held": HELD, "most": LOT})
        case "hold" if not foreign:
            return 0
        case "hold":
            return hold(conn, last_id=last_id)
        case "discard":
            chosen = {
                "held": HELD,
                "most": LOT,
                "last_id": last_id,
                "only_held": not foreign,
                "until": HELD_UNTIL,
            }
            batches = _in_lots(conn, query("instance/discard_batches"), chosen)
            return batches + _in_lots(conn, query("instance/discard"), chosen)


def _in_lots(conn: Connection, statement: str, chosen: Mapping[str, object]) -> int:
    """Repeat a bounded statement that returns how many rows it moved until that is none."""
    done = 0
    while moved := (conn.execute(statement.encode(), chosen).fetchone() or (0,))[0]:
        done += moved
    return done


def _await_leases(conn: Connection, note: Callable[[str], None]) -> None:
    """Let what the original had in hand come back; its leases end by themselves."""
    for second in range(LEASES_END):
        lease.reclaim(conn, crash_limit=0)
        leases, longest = conn.execute(query("instance/leases")).fetchone() or (0, 0.0)
        if not leases:
            return
        if longest > 0:
            if second % 10 == 0:
                note(f"waiting for {leases} leases of the original to end, {longest:.0f} s at most")
            threading.Event().wait(1.0)
    raise DatabaseError("leases do not end: does a daemon still send from this database? stop it first")
