"""Limit counts: ask for a batch, give back what was not used, prune.

Guarantees: no limit is exceeded in any true sliding window by the database's clock, across all daemons and crashes.
`grant` and `give_back` run in the caller's transaction, after `path_settings`; until its end their keys are locked, so
commit soon. Nothing is asked for before that commit.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final

from outboxd.core.limits import GRANT_TO_ARRIVAL, Ask
from outboxd.db.column import column
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings

PRUNE: Final = 20_000  # rows of a kind in one round


@dataclass(frozen=True, slots=True)
class Verdict:
    """Granted at an instant of the database's clock, or held by the limit (kind, key) until `free_at` at least.

    Of several limits that hold an email, the one that frees it last is named.
    """

    id: int
    granted: bool
    kind: str | None
    key: str | None
    free_at: datetime | None
    granted_at: datetime


def grant(
    conn: Connection, wanted: Ask, *, slack: timedelta = GRANT_TO_ARRIVAL, now: datetime | None = None
) -> list[Verdict]:
    """All limits of each email at once, all or nothing; one verdict per email, in the order of the ask."""
    values = _columns(wanted) | {"slack": slack, "now": now}
    rows = conn.execute(query("limit/grant"), values, prepare=True).fetchall()
    verdicts = {row[0]: Verdict(*row) for row in rows}
    return [verdicts[id_] for id_ in wanted.emails]


def give_back(conn: Connection, unused: Ask) -> int:
    """Take back shares that were granted and not used; for how many emails.

    An email with an open ambiguity keeps its shares: the record in `progress` is looked at. A batch whose ask is open
    has no record yet for its members: leave them out.
    """
    row = conn.execute(query("limit/give_back"), _columns(unused), prepare=True).fetchone()
    return int(row[0]) if row else 0


def prune(conn: Connection, *, limit: int = PRUNE, now: datetime | None = None) -> int:
    """Remove up to `limit` counts of each kind that count no more; how many. Call again while that is many."""
    with conn.transaction():
        path_settings(conn)
        row = conn.execute(query("limit/prune"), {"limit": limit, "now": now}).fetchone()
    return int(row[0]) if row else 0


def _columns(wanted: Ask) -> dict[str, object]:
    """The columns by name, as array literals where their text needs no quotes."""
    columns = {one.name: getattr(wanted, one.name) for one in fields(wanted)}
    return {name: _literal(values) for name, values in columns.items()}


def _literal(values: list[Any]) -> object:
    if any(isinstance(value, str) for value in values):
        return values
    if any(isinstance(value, timedelta) for value in values):
        text = {duration: f"{duration.total_seconds():.6f} s" for duration in set(values)}
        return "{" + ",".join([text[duration] for duration in values]) + "}"
    return column(values)
