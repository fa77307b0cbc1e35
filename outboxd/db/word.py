"""Words: what is said about an email that is in somebody else's hands, and read by every claim and settle."""

from collections.abc import Sequence
from typing import Final

from outboxd.core.email import Claimed
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings

SWEEP: Final = 100  # words looked at in one round


def accepted(conn: Connection, email: Claimed, provider_id: str, *, asked_ago: float) -> bool:
    """Record an acceptance that came too late for its lease; True where the email is known as sent already.

    The lease that has the email now is held while the word is written, so that its settle reads it. What crosses
    all the same is found by `apply`.
    """
    values = {
        "id": email.id, "provider_id": provider_id, "lease_id": email.lease_id, "asked_ago": asked_ago,
    }  # fmt: skip
    with conn.transaction():
        path_settings(conn)
        conn.execute(query("word/hold_lease"), {"id": email.id})
        written = conn.execute(query("word/accepted"), values).rowcount
    apply(conn)
    return written == 0


def apply(conn: Connection) -> list[int]:
    """Let accepted emails rise from the dead letters, and forget words that were heard; bounded. Ids that rose."""
    with conn.transaction():
        path_settings(conn)
        return [row[0] for row in conn.execute(query("word/apply"), {"limit": SWEEP}).fetchall()]


def cancelled(conn: Connection, ids: Sequence[int]) -> set[int]:
    """Which of these emails were taken back since their claim."""
    with conn.transaction():
        path_settings(conn)
        return {row[0] for row in conn.execute(query("word/cancelled"), {"ids": list(ids)}).fetchall()}
