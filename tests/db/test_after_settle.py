"""What follows a settle's commit is tried by itself: an error there does not write the outcomes again."""

import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from db.test_lanes import COLUMNS, Daemon, ids, limited
from factories import insert, state_of

from outboxd import metrics
from outboxd.core.outcome import Limited, Returned
from outboxd.db.session import Session
from outboxd.delivery.sender import Result
from outboxd.delivery.settler import _settle_until_done

BREAKS = {
    "failed": "raise 'full'",
    "was lost with the connection": "perform pg_terminate_backend(pg_backend_pid())",
}


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many leases were counted as lost, each time."""
    told: list[int] = []
    monkeypatch.setattr(metrics.leases_lost, "add", told.append)
    return told


def four_in_hand(conn: psycopg.Connection) -> tuple[Daemon, list[Result]]:
    """All that the limit allows; one of them failed before, and a limit refused it since."""
    daemon = limited(conn, "provider_day", most=4)
    for _ in range(4):
        insert(conn, type="reset", **COLUMNS)  # each travels alone
    returned = [Result(one, Returned()) for one in daemon.claim()]
    assert len(returned) == 4
    failed = returned[0].held.parcel.first
    conn.execute(
        "insert into outboxd.progress (id, attempts, frozen, first_asked_at, first_failed_at)"
        " values (%s, 1, '{}', clock_timestamp(), clock_timestamp())",
        (failed.id,),
    )
    object.__setattr__(failed, "first_failed_at", datetime.now(UTC) - timedelta(minutes=1))
    until = datetime.now(UTC) + timedelta(hours=1)
    return daemon, [Result(returned[0].held, Limited("queue", "marketing", until)), *returned[1:]]


def break_(conn: psycopg.Connection, change: str, how: str) -> None:
    conn.execute(
        f"create function public.no() returns trigger language plpgsql security definer as $$ begin {how}; return new; end $$"
    )
    conn.execute(f"create trigger no before {change} for each row execute function public.no()")


def settle(daemon: Daemon, url: str, results: list[Result]) -> int:
    """As the thread does, on a connection of its own, which heals; how often the claimer was woken."""
    woken: list[bool] = []
    settler = daemon.settler
    settler.session = Session(url, "settler", stop=settler.give_up)
    settler.wake = lambda: woken.append(True)
    stop = threading.Timer(10, settler.give_up.set)
    stop.start()
    assert _settle_until_done(settler, results), "it writes them again and again"
    stop.cancel()
    settler.session.run(lambda conn: conn.execute("select"))
    settler.session.close()
    return len(woken)


@pytest.mark.parametrize(("said", "how"), BREAKS.items(), ids=["fails", "is cut"])
def test_shares_that_cannot_be_given_back_make_no_lease_a_lost_one(conn, database, lost, caplog, said, how):
    daemon, results = four_in_hand(conn)
    break_(conn, "update on outboxd.window_count", how)
    assert settle(daemon, database, results) == 1
    assert sum(lost) == 0
    assert said in caplog.text
    assert {state_of(conn, one.held.parcel.first.id) for one in results} <= {"ready", "blocked", "retrying"}


def test_a_hold_that_cannot_be_noted_keeps_no_share(conn, database, lost):
    daemon, results = four_in_hand(conn)
    break_(conn, "update of held on outboxd.progress", BREAKS["failed"])
    assert settle(daemon, database, results) == 1
    assert sum(lost) == 0
    conn.execute("update outboxd.lane set closed_until = null")
    assert len(ids(daemon.claim())) >= 3, "their shares are back"
