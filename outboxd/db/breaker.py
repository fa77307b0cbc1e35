"""The breaker of an account, shared by all daemons: one row, changed under its lock by what `core/breaker.py` decides."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from outboxd.core.breaker import Breaker, with_probe, without_probe
from outboxd.db.pause import Probe, briefly
from outboxd.db.query import query
from outboxd.db.session import Connection, LockTimeoutError

AT_ONCE: Final = timedelta(0)

Decide = Callable[[Breaker, datetime], Breaker]


def change(
    conn: Connection, account: str, decide: Decide, *, now: datetime | None = None
) -> tuple[Breaker, Breaker]:
    """Let `decide` see the breaker and the database's clock, and write what it makes of it, in one transaction.

    Returns what it was and what it is. Raises `LockTimeoutError` where somebody holds the breaker's row.
    """
    with briefly(conn):
        row = conn.execute(query("breaker/lock"), {"account": account, "now": now}).fetchone()
        assert row is not None
        at, state, failed_at, *others = row
        before = Breaker(state, tuple(failed_at), *others)
        after = decide(before, at)
        if after != before:
            values = {
                "account": account,
                "state": after.state,
                "failed_at": list(after.failed_at),
                "opened_at": after.opened_at,
                "probe_at": after.probe_at,
                "cause": after.cause,
                "probes": after.probes,
            }
            conn.execute(query("breaker/save"), values)
    return before, after


def probe_due_in(conn: Connection, account: str, *, now: datetime | None = None) -> float | None:
    """Seconds until the next probe, negative where it is overdue; None where the breaker is closed."""
    row = conn.execute(query("breaker/due"), {"account": account, "now": now}).fetchone()
    return None if row is None else float(row[0])


def take_probe(conn: Connection, account: str, *, now: datetime | None = None) -> Probe | None:
    """The probe that is due, if this daemon is the first to take it, and nobody's transaction holds the breaker."""
    try:
        before, after = change(conn, account, lambda known, at: with_probe(known, now=at), now=now)
    except LockTimeoutError:
        return None
    if after.probes == before.probes:
        return None
    return Probe("breaker", account, "provider_ill", number=after.probes)


def release_probe(conn: Connection, probe: Probe, *, now: datetime | None = None) -> None:
    """What the probe found was stopped before it was asked for, and is out of the way: another is due at once."""
    change(
        conn, probe.key, lambda known, at: without_probe(known, probe.number, now=at, due_in=AT_ONCE), now=now
    )


def put_off_probe(conn: Connection, probe: Probe, *, now: datetime | None = None) -> None:
    """The probe found nothing that it could ask for: another is due soon, or once who holds the breaker lets go."""
    with suppress(LockTimeoutError):
        change(conn, probe.key, lambda known, at: without_probe(known, probe.number, now=at), now=now)
