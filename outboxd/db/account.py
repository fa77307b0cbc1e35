"""The pace of a provider account, shared by all daemons that use it."""

from datetime import timedelta

from outboxd.db.query import query
from outboxd.db.session import Connection


def ensure(conn: Connection, name: str) -> float | None:
    """Make the account known; its rate in requests per second, None where the provider names none."""
    row = conn.execute(query("account/ensure"), {"name": name}).fetchone()
    assert row is not None
    return None if row[0] is None else float(row[0])


def reserve(conn: Connection, name: str, wanted: int, *, share: float) -> tuple[float | None, int, float]:
    """Rate, requests granted, and seconds until the first of them may leave; a rate of None grants them all."""
    values = {"name": name, "wanted": wanted, "share": share}
    row = conn.execute(query("account/reserve"), values, prepare=True).fetchone()
    return (None, wanted, 0.0) if row is None else (row[0], row[1], row[2])


def learn(conn: Connection, name: str, rate: float | None) -> None:
    """Keep the rate that the provider's answers name."""
    conn.execute(query("account/learn"), {"name": name, "rate": rate})


def overran(conn: Connection, name: str, after: timedelta) -> float:
    """The provider said "too many requests": seconds until the next request of any daemon."""
    row = conn.execute(query("account/overrun"), {"name": name, "after": after}).fetchone()
    assert row is not None
    return float(row[0])
