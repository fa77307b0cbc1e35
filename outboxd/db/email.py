"""Emails as a person asks for them: list, show, explain, cancel, enqueue, rebuild."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import DictRow

from outboxd.db.command import connected, explained, rows
from outboxd.db.query import query
from outboxd.errors import NotFoundError

CHUNK: Final = 100_000  # ids looked at in one statement of a rebuild


def listing(url: str, *, limit: int, **filters: str | None) -> list[DictRow]:
    """The newest emails that fit `queue`, `type`, `state`, `recipient`."""
    return rows(url, query("email/list"), {"limit": limit, **filters})


def show(url: str, uid: UUID) -> DictRow:
    """Everything about one email but its payload. Raises `NotFoundError`."""
    return _one(rows(url, query("email/show"), {"uid": uid}), "email", uid)


def explain(url: str, uid: UUID) -> dict[str, Any]:
    """Which gate holds it, when it can go at the earliest, its place in the queue, and `gates`: each in its order.

    `verdict` is pass, hold or end. `earliest` is None where it needs a person, or is not sent. Raises `DatabaseError` for
    an unknown uid.
    """
    *gates, answer = rows(url, query("email/explain"), {"uid": uid})
    place = next((gates.pop(at)["detail"] for at, row in enumerate(gates) if row["gate"] == "place"), None)
    return {
        "uid": uid,
        "verdict": answer["verdict"],
        "held_by": next((row["gate"] for row in gates if row["holds"]), None),
        "earliest": answer["free_at"],
        "answer": answer["detail"],
        "place": place,
        "gates": gates,
    }


def cancel(url: str, uid: UUID) -> bool:
    """Take it back; True where it is certain that it is not sent. Raises `DatabaseError` for an unknown uid."""
    return bool(rows(url, query("email/cancel"), {"uid": uid})[0]["cancel"])


def enqueue(url: str, values: Mapping[str, Any]) -> DictRow:
    """Insert one email; its id, uid and whether it was a duplicate."""
    return rows(url, query("email/enqueue"), values)[0]


def dead_listing(url: str, *, limit: int, **filters: str | None) -> list[DictRow]:
    """The newest dead letters that fit `queue`, `type`, `state`, `error`."""
    return rows(url, query("dead/list"), {"limit": limit, **filters})


def dead_show(url: str, uid: UUID, *, payload: bool) -> DictRow:
    """One dead letter. Raises `NotFoundError`."""
    return _one(rows(url, query("dead/show"), {"uid": uid, "payload": payload}), "dead letter", uid)


def rebuild(url: str, *, never_asked: bool, progress: Callable[[int, int, int], None]) -> int:
    """Put back every email that is in no table of a state; how many. Calls `progress(done, last, found)`.

    Raises `DatabaseError`.
    """
    found = 0
    with connected(url) as conn:
        try:
            first, last = conn.execute(query("email/bounds")).fetchone() or (0, -1)
            for low in range(first, last + 1, CHUNK):
                high = min(low + CHUNK - 1, last)
                values = {"from_id": low, "to_id": high, "never_asked": never_asked}
                row = conn.execute(query("email/rebuild"), values).fetchone()
                found += row[0] if row else 0
                progress(high, last, found)
        except psycopg.Error as error:
            raise explained(error) from None
    return found


def _one(found: list[DictRow], noun: str, uid: UUID) -> DictRow:
    if not found:
        raise NotFoundError(f"there is no {noun} with uid {uid}")
    return found[0]
