"""The pace of a provider account, shared by all daemons that use it."""

from dataclasses import dataclass
from datetime import timedelta

from outboxd.db.query import query
from outboxd.db.session import Connection


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests per second: what the provider's answers name, and what its refusals taught; None for no limit."""

    named: float | None
    adapted: float | None = None

    @property
    def obeyed(self) -> float | None:
        """The lower of the two."""
        if self.named is None or self.adapted is None:
            return self.named if self.adapted is None else self.adapted
        return min(self.named, self.adapted)


UNLIMITED = Rate(None)


def ensure(conn: Connection, name: str) -> Rate:
    """Make the account known; its rate."""
    row = conn.execute(query("account/ensure"), {"name": name}).fetchone()
    assert row is not None
    return Rate(*row)


def reserve(conn: Connection, name: str, wanted: int, *, share: float) -> tuple[Rate, int, float]:
    """Rate, requests granted, and seconds until the first of them may leave; without a limit all are granted.

    They are paced at the share of the rate that policy names for the account, else `share`.
    """
    values = {"name": name, "wanted": wanted, "share": share}
    row = conn.execute(query("account/reserve"), values, prepare=True).fetchone()
    return (UNLIMITED, wanted, 0.0) if row is None else (Rate(row[0], row[1]), row[2], row[3])


def learn(conn: Connection, name: str, rate: float | None, *, instead: float | None) -> None:
    """Keep the rate that an answer named while `instead` was known; not where another one is known by now."""
    conn.execute(query("account/learn"), {"name": name, "rate": rate, "instead": instead})


def overran(
    conn: Connection, name: str, after: timedelta, *, passed: int = 0, explained: bool = False
) -> float:
    """The provider said "too many requests": seconds until the next request of any daemon.

    `passed` requests of this daemon were let through in the second before. `explained`: the provider's figure had just
    fallen, so that obeying it is enough; else the account is slowed down.
    """
    values = {"name": name, "after": after, "passed": passed, "explained": explained}
    row = conn.execute(query("account/overrun"), values).fetchone()
    assert row is not None
    return float(row[0])


def adapt(conn: Connection, name: str) -> Rate:
    """Raise the adapted rate a little, where its time has come and no other daemon does; what it is now."""
    row = conn.execute(query("account/adapt"), {"name": name}, prepare=True).fetchone()
    return UNLIMITED if row is None else Rate(*row)
