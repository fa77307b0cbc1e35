"""Words: what is said about an email that is in somebody else's hands, and read by every claim and settle."""

from collections.abc import Sequence
from typing import Final

from outboxd.core.email import Claimed
from outboxd.db import pause
from outboxd.db.lease import Settlement
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings

SWEEP: Final = 100  # words looked at in one round


def accepted(conn: Connection, late: Sequence[Settlement]) -> list[Claimed]:
    """Record acceptances that came too late for their leases; the emails that were not known as sent already.

    The lease that has an email now is held while the word is written, so that its settle reads it. What crosses
    all the same is found by `apply`. One commit, so that of a batch's members all are known as accepted or none.
    """
    news = []
    with conn.transaction():
        path_settings(conn)
        for settlement in sorted(late, key=lambda settlement: settlement.email.id):
            email = settlement.email
            values = {
                "id": email.id,
                "uid": email.uid,
                "provider_id": settlement.step.provider_id,
                "lease_id": email.lease_id,
                "asked_ago": settlement.asked_ago or 0.0,
            }
            conn.execute(query("word/hold_lease"), {"id": email.id})
            if conn.execute(query("word/accepted"), values).rowcount:
                news.append(email)
    apply(conn)
    return news


def apply(conn: Connection) -> list[int]:
    """Let accepted emails rise from the dead letters, and forget words that were heard; bounded. Ids that rose."""
    with conn.transaction():
        path_settings(conn)
        return [row[0] for row in conn.execute(query("word/apply"), {"limit": SWEEP}).fetchall()]


def since_claim(conn: Connection, ids: Sequence[int]) -> tuple[set[int], pause.Paused]:
    """What was said since these emails were claimed: which were taken back, and what is paused now."""
    with conn.pipeline(), conn.transaction():
        path_settings(conn)
        cancelled = conn.execute(query("word/cancelled"), {"ids": list(ids)})
        paused = pause.active(conn)
    return {row[0] for row in cancelled.fetchall()}, paused.read()
