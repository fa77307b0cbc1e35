"""Moving what waits from a slot into lanes, many rows at a time, each touched once."""

from datetime import datetime

from outboxd.db.lease import Slot
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings


def park(
    conn: Connection,
    slot: Slot,
    key: str,
    lane: int,
    *,
    limit: int,
    kind: str = "provider",
    paused: bool = False,
) -> tuple[int, datetime, int]:
    """Move the emails of one thing into its lane, of the next `limit` behind the slot's watermark.

    Types that are exempt from its limit stay, unless it is `paused`. How many were looked at, whosever they were, and where the last of them stands.
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
    }
    with conn.transaction():
        path_settings(conn)
        row = conn.execute(query("ready/park"), values).fetchone()
    return (row[0], row[1], row[2]) if row else (0, slot.after_at, slot.after_id)


def part(conn: Connection, slot: Slot, *, few: int, limit: int) -> tuple[int, datetime, int]:
    """Move the emails of tenants that have at least `few`, or a lane, into their lanes; the answer is `park`'s."""
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
    return (row[0], row[1], row[2]) if row else (0, slot.after_at, slot.after_id)
