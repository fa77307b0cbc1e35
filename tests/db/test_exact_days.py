"""A limit of a day is 24 hours also where the caller's clocks are set forward or back meanwhile."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from factories import insert, payload, uid_of
from psycopg.types.json import Jsonb

GRANTED = {  # on the day before the clocks of Berlin are set so
    "forward": datetime(2026, 3, 28, 12, tzinfo=UTC),
    "back": datetime(2026, 10, 24, 12, tzinfo=UTC),
}
DAY = timedelta(days=1)
SLACK = timedelta(seconds=1.1)  # what a window is longer than its limit says
KINDS = ["tenant", "recipient", "account_day"]


def full(conn: psycopg.Connection, kind: str, granted: datetime) -> int:
    """An email under a limit of one a day, whose one was granted then; its id."""
    conn.execute("insert into outboxd.account (name) values ('default') on conflict do nothing")
    conn.execute("delete from outboxd.limit_rule where kind = %s", (kind,))
    rule = {"kind": kind, "most": 1, "per": "1 d"}
    if kind == "account_day":
        rule["critical_share"] = 0
    conn.execute("select outboxd.set_limit('day', %s)", (Jsonb(rule),))
    if kind == "recipient":
        conn.execute(
            "insert into outboxd.recipient_count values (outboxd.recipient_key('ada@example.org'), %s, %s, %s, 'infinity')",
            ([-1], [granted], DAY),
        )
    else:
        conn.execute(
            "insert into outboxd.window_count values (%s, %s, %s, '{1}', 1, %s, 'infinity')",
            (kind, "default" if kind == "account_day" else "acme", [granted], DAY),
        )
    return insert(conn, body=payload(to=["ada@example.org"]), tenant="acme")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC"])
@pytest.mark.parametrize("change", GRANTED)
@pytest.mark.parametrize("kind", KINDS)
def test_explain_frees_a_day_after_24_hours_whatever_the_callers_time_zone(conn, kind, change, zone):
    granted = GRANTED[change]
    id_ = full(conn, kind, granted)
    conn.execute("select set_config('timezone', %s, false)", (zone,))

    def limit(at: datetime) -> tuple[str, datetime | None]:
        rows = conn.execute(
            "select verdict, free_at from outboxd.explain(%s, %s) where gate = %s",
            (uid_of(conn, id_), at, f"{kind} limit"),
        ).fetchall()
        (row,) = rows
        return row

    for hours in (22.5, 23.5, 23.99):
        verdict, free_at = limit(granted + timedelta(hours=hours))
        assert (hours, verdict) == (hours, "hold")
        assert timedelta(0) < free_at - granted - DAY <= SLACK
    for hours in (24.01, 24.5):
        assert (hours, *limit(granted + timedelta(hours=hours))) == (hours, "pass", None)


def test_explain_leaves_the_callers_time_zone_as_it_was(conn):
    id_ = full(conn, "tenant", GRANTED["back"])
    conn.execute("set timezone = 'Europe/Berlin'")
    conn.execute("select * from outboxd.explain(%s)", (uid_of(conn, id_),)).fetchall()
    assert conn.execute("show timezone").fetchone() == ("Europe/Berlin",)


@pytest.mark.parametrize(("ago", "used"), [(23.5, [(1,)]), (24.5, [])])
@pytest.mark.parametrize("step", ["AAA0BBB-1", "AAA0BBB1"], ids=["forward", "back"])
def test_limit_usage_counts_24_hours_whatever_the_callers_time_zone(conn, step, ago, used):
    """In a zone whose clocks were set half a day ago."""
    now = datetime.now(UTC)
    full(conn, "tenant", now - timedelta(hours=ago))
    changed = now - timedelta(hours=12)
    first, later = changed.timetuple(), (changed + timedelta(days=100)).timetuple()
    zone = f"{step},{first.tm_yday - 1}/{changed.hour},{later.tm_yday - 1}/0"
    conn.execute("select set_config('timezone', %s, false)", (zone,))
    assert conn.execute("select used from outboxd.limit_usage where kind = 'tenant'").fetchall() == used
