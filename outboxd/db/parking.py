"""Moving what waits from a slot into lanes, many rows at a time, each touched once."""

from dataclasses import dataclass, replace

from psycopg.rows import TupleRow

from outboxd.db.lease import Slot
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings, transaction_of_path


@dataclass(frozen=True, slots=True)
class Moved:
    """What one statement did: how many rows it looked at, how many of them it moved, and the slot behind them."""

    seen: int
    moved: int
    after: Slot


def park(
    conn: Connection,
    slot: Slot,
    key: str,
    lane: int,
    *,
    limit: int,
    kind: str = "provider",
    paused: bool = False,
    others: bool = False,
    scheduled: bool = False,
) -> Moved:
    """Move the emails of one thing, or all `others`, into a lane, of the next `limit` due behind the slot's watermark.

    Types that are exempt from its limit are others, unless it is `paused`. `scheduled`: also what is not due yet.
    """
    values = {
        "kind": kind,
        "queue": slot.queue,
        "from_lane": slot.lane,
        "priority": slot.priority,
        "after_at": slot.after_at,
        "after_id": slot.after_id,
        "key": key,
        "lane": lane,
        "limit": limit,
        "paused": paused,
        "others": others,
        "upto": "infinity" if scheduled else None,
    }
    with conn.pipeline(), transaction_of_path(conn):
        cursor = conn.execute(query("ready/park"), values, prepare=True)
    return _moved(slot, cursor.fetchone())


def exempting(conn: Connection, kind: str, key: str) -> int | None:
    """The lane that limits of this key close, where they exempt some type now; None while a pause holds every type."""
    row = conn.execute(query("lane/exempting"), {"kind": kind, "key": key}).fetchone()
    return None if row is None else int(row[0])


def slots_in(conn: Connection, lane: int) -> list[Slot]:
    """The slots of a lane that have rows, from their heads."""
    rows = conn.execute(query("lane/slots"), {"lane": lane}).fetchall()
    return [Slot(queue, lane, priority) for queue, priority in rows]


def in_quota(conn: Connection, lane: int) -> bool:
    """Whether emails wait in that lane for the quota of an account, whichever."""
    return lane > 0 and conn.execute(query("lane/in_quota"), {"lane": lane}).fetchone() is not None


def part(conn: Connection, slot: Slot, *, few: int, limit: int) -> Moved:
    """Move the emails of tenants that have at least `few`, or a lane, of the next `limit` due, into their lanes.

    `moved` counts those too that another daemon has locked, which may be moving them at the same time.
    """
    values = {
        "queue": slot.queue,
        "priority": slot.priority,
        "after_at": slot.after_at,
        "after_id": slot.after_id,
        "few": few,
        "limit": limit,
    }
    with conn.transaction():
        path_settings(conn)
        row = conn.execute(query("ready/part"), values).fetchone()
    return _moved(slot, row)


def _moved(slot: Slot, row: TupleRow | None) -> Moved:
    if row is None:
        return Moved(0, 0, slot)
    seen, moved, after_at, after_id = row
    return Moved(seen, moved, replace(slot, after_at=after_at, after_id=after_id))
