"""Limit counts: ask for a batch, give back what was not used, prune.

Guarantees: no limit is exceeded in any true sliding window by the database's clock, across all daemons and crashes.
`grant` and `give_back` run in the caller's transaction, after `path_settings`; until its end their keys are locked, so
commit soon. Nothing is asked for before that commit.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from outboxd.core.limits import BY_PROVIDER, GRANT_TO_ARRIVAL, SHAPE, Ask
from outboxd.db.column import column
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings

PRUNE: Final = 20_000  # rows of a kind in one round
DURATIONS: Final = ("mailbox_per", "key_per")
TEXTS: Final = ("addresses", "kinds", "keys", "key_provider")
PLAIN: Final = tuple(one for one in fields(Ask) if one.name not in {*DURATIONS, *TEXTS, "needs"})


class Verdict(NamedTuple):
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
    held = {row[0]: _verdict(*row) for row in rows}  # and the first email, for the instant
    return [
        held.get(id_) or Verdict(id_, granted=True, kind=None, key=None, free_at=None, granted_at=rows[0][5])
        for id_ in wanted.emails
    ]


def _verdict(id_: int, granted: bool, kind: str | None, *more: Any) -> Verdict:  # noqa: FBT001 - a row's columns
    """People know a suspended provider by its limit, whether the email counts there or not."""
    return Verdict(id_, granted, BY_PROVIDER[0] if kind == SHAPE else kind, *more)


def give_back(conn: Connection, unused: Ask) -> int:
    """Take back shares that were granted and not used; for how many emails.

    An email with an open ambiguity keeps its shares: the record in `progress` is looked at. A batch whose ask is open
    has no record yet for its members: ask without their mailboxes, which remember one grant and not which.
    """
    row = conn.execute(query("limit/give_back"), _columns(unused), prepare=True).fetchone()
    return int(row[0]) if row else 0


def open_lanes(conn: Connection, kinds: Sequence[str], keys: Sequence[str]) -> None:
    """Open the lanes that limits of these keys closed, where they have room now. In the transaction of `give_back`."""
    conn.execute(query("lane/open"), {"kinds": list(kinds), "keys": list(keys)})


def prune(conn: Connection, *, limit: int = PRUNE, now: datetime | None = None) -> int:
    """Remove up to `limit` counts of each kind that count no more; how many. Call again while that is many."""
    with conn.transaction():
        path_settings(conn)
        row = conn.execute(query("limit/prune"), {"limit": limit, "now": now}).fetchone()
    return int(row[0]) if row else 0


def _columns(wanted: Ask) -> dict[str, object]:
    """The columns by name, as array literals where their text needs no quotes."""
    columns: dict[str, object] = {one.name: column(getattr(wanted, one.name)) for one in PLAIN}
    columns |= {name: _durations(getattr(wanted, name)) for name in DURATIONS}
    return columns | {name: _texts(getattr(wanted, name)) for name in TEXTS}


def _durations(values: list[timedelta]) -> str:
    text = {duration: f"{duration.total_seconds():.6f} s" for duration in set(values)}
    return "{" + ",".join([text[duration] for duration in values]) + "}"


def _texts(values: Sequence[str | None]) -> object:
    """Quoted where nothing in them would end a quote; else by the driver."""
    joined = "".join([value for value in values if value is not None])
    if '"' in joined or "\\" in joined:
        return list(values)
    return "{" + ",".join(["NULL" if value is None else f'"{value}"' for value in values]) + "}"
