"""How long emails were held by pauses and breakers: time that does not count towards giving up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from outboxd.db.query import query
from outboxd.db.session import Connection

KEEP: Final = timedelta(days=31)
PRUNE: Final = 1_000  # rows in one round


@dataclass(frozen=True, slots=True)
class Waiter:
    """An email, or a batch, that failed first at `since`, and what may have held it."""

    since: datetime
    queue: str
    type: str
    domain: str


def held_since(
    conn: Connection, account: str, waiters: Sequence[Waiter], *, now: datetime | None = None
) -> list[timedelta]:
    """For how long each of them was held, in their order."""
    values = {
        "account": account,
        "since": [waiter.since for waiter in waiters],
        "queues": [waiter.queue for waiter in waiters],
        "types": [waiter.type for waiter in waiters],
        "domains": [waiter.domain for waiter in waiters],
        "now": now,
    }
    return [timedelta(seconds=row[0]) for row in conn.execute(query("hold/since"), values).fetchall()]


def prune(conn: Connection, *, limit: int = PRUNE, now: datetime | None = None) -> int:
    """Remove up to `limit` times older than `KEEP`; how many."""
    return conn.execute(query("hold/prune"), {"keep": KEEP, "limit": limit, "now": now}).rowcount
