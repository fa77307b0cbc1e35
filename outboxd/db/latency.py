"""The latency histogram: settle fills it, the view `latency` reads it, and here it is kept bounded."""

from datetime import datetime, timedelta
from typing import Final

from outboxd.db.query import query
from outboxd.db.session import Connection

KEEP: Final = timedelta(days=31)
PRUNE: Final = 5_000  # buckets in one round


def prune(conn: Connection, *, limit: int = PRUNE, now: datetime | None = None) -> int:
    """Remove up to `limit` buckets older than `KEEP`; how many."""
    return conn.execute(query("latency/prune"), {"keep": KEEP, "limit": limit, "now": now}).rowcount
