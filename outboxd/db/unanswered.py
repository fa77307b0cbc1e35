"""The 23 hours of a key by the clock: what was asked and never answered ends as unknown, though nothing is claimed.

While a pause or a breaker keeps claims away, nobody else would look at it; and after 24 hours the provider has
forgotten the key.
"""

from datetime import datetime
from typing import Final

from outboxd.core.retry import KEY_LIFE
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings

MOST: Final = 200  # emails, and batches, in one round


def end(conn: Connection, *, limit: int = MOST, now: datetime | None = None) -> list[int]:
    """End up to `limit` emails and `limit` batches of such; the ids of the emails."""
    values = {"key_life": KEY_LIFE, "limit": limit, "now": now}
    with conn.transaction():
        path_settings(conn)
        return [row[0] for row in conn.execute(query("unanswered/end"), values).fetchall()]
