"""How long emails were held by pauses, breakers and limits: time that does not count towards giving up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from outboxd.db.query import query
from outboxd.db.session import Connection

KEEP: Final = timedelta(days=31)
PRUNE: Final = 10_000  # rows in one round


@dataclass(frozen=True, slots=True)
class Waiter:
    """An email, or the first of a batch, that failed first at `since`; `domain` is its sender's."""

    id: int
    since: datetime
    domain: str
    batch: UUID | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """An email, or the first of a batch, that a limit holds until `free_at`."""

    id: int
    free_at: datetime
    batch: UUID | None = None


def held_since(
    conn: Connection, account: str, waiters: Sequence[Waiter], *, now: datetime | None = None
) -> list[timedelta]:
    """For how long each of them was held, in their order."""
    values = {
        "account": account,
        "ids": [waiter.id for waiter in waiters],
        "batches": [waiter.batch for waiter in waiters],
        "since": [waiter.since for waiter in waiters],
        "domains": [waiter.domain for waiter in waiters],
        "now": now,
    }
    return [timedelta(seconds=row[0]) for row in conn.execute(query("hold/since"), values).fetchall()]


def lengthen(conn: Connection, held: Sequence[Held], *, now: datetime | None = None) -> None:
    """Note that limits hold these; of those that never failed nothing is kept."""
    values = {
        "ids": [one.id for one in held],
        "batches": [one.batch for one in held],
        "free_at": [one.free_at for one in held],
        "now": now,
    }
    conn.execute(query("hold/lengthen"), values)


def prune(conn: Connection, *, limit: int = PRUNE, now: datetime | None = None) -> int:
    """Remove up to `limit` times older than `KEEP`; how many."""
    return conn.execute(query("hold/prune"), {"keep": KEEP, "limit": limit, "now": now}).rowcount
