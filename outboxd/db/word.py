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

    The leases that have the emails now are held while the words are written, so that their settles read them. What
    crosses all the same is found by `apply`. One commit, so that of a batch's members all are known as accepted or
    none; and a short one, because those who hold the leases wait for it.
    """
    ids = [settlement.email.id for settlement in late]
    values = {
        "ids": ids,
        "uids": [settlement.email.uid for settlement in late],
        "provider_ids": [settlement.step.provider_id for settlement in late],
        "leases": [settlement.email.lease_id for settlement in late],
        "asked_ago": [settlement.asked_ago or 0.0 for settlement in late],
    }
    with conn.pipeline(), conn.transaction():
        path_settings(conn)
        conn.execute(query("word/hold_leases"), {"ids": ids})
        recorded = conn.execute(query("word/accepted"), values)
    news = {row[0] for row in recorded.fetchall()}
    apply(conn)
    return list({one.email.id: one.email for one in late if one.email.id in news}.values())


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
