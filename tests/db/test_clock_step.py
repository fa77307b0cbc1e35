"""The server's clock steps ahead: what it skipped has not passed, so nothing is granted for it."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from factories import claim, insert
from limiting import DAY, HOUR, MINUTE, NOON, SLACK, THREE_AN_HOUR, columns, grant, itself, subject
from waiting import until

from outboxd.core.batch import Parcel
from outboxd.core.clock import TOLERANCE, Step
from outboxd.core.limits import Limit
from outboxd.db import limit
from outboxd.db.clock import follow
from outboxd.db.policy import Policies
from outboxd.db.session import Session
from outboxd.delivery.admission import Admission
from outboxd.delivery.watch import Watch
from outboxd.providers import Providers
from outboxd.upkeep import TIDY, Keeper

TWO_A_MINUTE = Limit("provider_minute", None, 2, MINUTE)
FIVE_A_DAY = Limit("queue", "transactional", 5, DAY)
AHEAD = timedelta(hours=2)
A_BIT = timedelta(milliseconds=100)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def stepped(after: float = 10, ahead: timedelta = AHEAD) -> Step:
    """Seen at noon, and that many seconds later it was ahead."""
    return Step(NOON, at(after), at(after), at(after) + ahead, TOLERANCE)


def test_a_mailbox_counts_on_through_a_step(conn):
    for n in range(3):
        assert grant(conn, [subject(n)], THREE_AN_HOUR, now=at(n))[0].granted
    assert follow(conn, stepped()) == AHEAD
    (held,) = grant(conn, [subject(9)], THREE_AN_HOUR, now=at(10) + AHEAD)
    assert not held.granted
    assert held.free_at - (at(0) + AHEAD + HOUR + SLACK) < A_BIT
    assert grant(conn, [subject(9)], THREE_AN_HOUR, now=held.free_at + A_BIT)[0].granted


def test_windows_count_on_through_a_step(conn):
    for n in range(2):
        assert grant(conn, [subject(n, f"u{n}@shop.example")], TWO_A_MINUTE, FIVE_A_DAY, now=at(n))[0].granted
    follow(conn, stepped(ahead=DAY + DAY))
    late = at(10) + DAY + DAY
    (held,) = grant(conn, [subject(9, "u9@shop.example")], TWO_A_MINUTE, FIVE_A_DAY, now=late)
    assert (held.granted, held.kind) == (False, "provider_minute")
    free = [
        grant(conn, [subject(n, f"u{n}@other.example")], FIVE_A_DAY, now=late)[0].granted
        for n in range(10, 16)
    ]
    assert free == [True] * 3 + [False] * 3


def test_what_was_granted_after_the_step_by_somebody_who_did_not_notice_stays_where_it_is(conn):
    ahead = timedelta(minutes=30)
    grant(conn, [subject(1)], THREE_AN_HOUR, now=at(5))
    grant(conn, [subject(2)], THREE_AN_HOUR, now=at(9) + ahead)
    follow(conn, stepped(ahead=ahead))
    emails, instants = conn.execute("select emails, at from outboxd.recipient_count").fetchone()
    assert emails == [1, 2]
    assert instants == [at(5) + ahead, at(9) + ahead]


def test_daemons_that_saw_the_same_step_move_the_counts_once(conn, connect):
    grant(conn, [subject(1)], THREE_AN_HOUR, now=at(1))
    assert follow(conn, stepped()) == AHEAD
    assert follow(connect(), stepped(after=12)) is None
    again = replace(
        stepped(after=30, ahead=AHEAD + AHEAD),
        seen_at=at(20) + AHEAD,
        earliest=at(30) + AHEAD,
        expected=at(30) + AHEAD,
    )
    assert follow(conn, again) == AHEAD
    assert conn.execute("select at from outboxd.recipient_count").fetchone() == ([at(1) + 2 * AHEAD],)


def test_a_clock_that_goes_back_and_ahead_again_is_followed_again(conn):
    assert follow(conn, stepped()) == AHEAD
    grant(conn, [subject(1)], THREE_AN_HOUR, now=at(20))
    assert follow(conn, replace(stepped(after=30), seen_at=at(15))) == AHEAD
    assert conn.execute("select at from outboxd.recipient_count").fetchone() == ([at(20) + AHEAD],)


def seen(base: float, passed: float, ahead: float) -> Step:
    """Seen at `base`, and `passed` seconds later ahead by that many."""
    return Step(at(base), at(base + passed), at(base + passed), at(base + passed + ahead), TOLERANCE)


@pytest.mark.parametrize("steps", [(30, 60), (60, 30), (5, 30, 7200, 60)])
def test_who_slept_through_several_steps_that_others_noted_repeats_none(conn, connect, steps):
    grant(conn, [subject(1)], THREE_AN_HOUR, now=at(0))
    clock = 0
    for ahead in steps:
        assert follow(conn, seen(clock, 10, ahead)) == timedelta(seconds=ahead)
        clock += 10 + ahead
    passed = 10 * len(steps) + 5
    assert follow(connect(), seen(0, passed, sum(steps))) is None
    assert follow(connect(), seen(0, passed, sum(steps) + 3)) == timedelta(seconds=3)
    assert conn.execute("select at from outboxd.recipient_count").fetchone() == ([at(sum(steps) + 3)],)


def test_a_step_that_only_who_slept_saw_moves_what_others_moved_by_theirs(conn, connect):
    grant(conn, [subject(1)], THREE_AN_HOUR, now=at(0))
    follow(conn, seen(0, 40, 7200))
    grant(conn, [subject(2)], THREE_AN_HOUR, now=at(7245))
    assert follow(connect(), seen(0, 50, 7230)) == timedelta(seconds=30)
    assert follow(conn, seen(7240, 12, 30)) is None
    assert conn.execute("select at from outboxd.recipient_count").fetchone() == ([at(7230), at(7275)],)


def test_steps_noted_before_the_clock_went_back_are_taken_off_no_later_one(conn):
    follow(conn, seen(600, 10, 590))  # to 20 minutes past
    follow(conn, seen(-8400, 10, 10790))  # from 140 minutes before, to 40 minutes past
    assert follow(conn, seen(0, 10, 7200)) == timedelta(hours=2)


def test_a_step_noted_after_the_clock_went_back_reaches_none_from_before(conn):
    follow(conn, seen(0, 10, 60))
    follow(conn, seen(20, 10, 600))  # after it went back by 60 s
    assert follow(conn, seen(20, 60, 605)) == timedelta(seconds=5)


def test_counts_move_by_as_much_as_the_clock_may_have_skipped(conn):
    grant(conn, [subject(1)], THREE_AN_HOUR, now=at(9))
    assert follow(conn, replace(stepped(), earliest=at(7))) == AHEAD + timedelta(seconds=3)
    assert conn.execute("select at from outboxd.recipient_count").fetchone() == ([at(12) + AHEAD],)


def test_a_step_waits_for_a_grant_that_is_under_way_and_moves_it_too(conn, connect):
    grant(conn, [subject(1)], THREE_AN_HOUR, now=at(1))
    granting, following = connect(), connect()
    thread = threading.Thread(target=follow, args=(following, stepped()))
    with granting.transaction():
        limit.grant(granting, columns([subject(2)], [THREE_AN_HOUR]), slack=SLACK, now=at(2))
        thread.start()
        until(lambda: waits_for_lock(conn), what="the step to wait")
    thread.join()
    assert conn.execute("select at from outboxd.recipient_count").fetchone() == (
        [at(1) + AHEAD, at(2) + AHEAD],
    )


def waits_for_lock(conn: psycopg.Connection) -> bool:
    found = conn.execute(
        "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database())"
    )
    return found.fetchone() == (True,)


def until_looked_at(session: Session, times: int) -> None:
    """The watchdog has looked so often, and bears with no statement for longer than a tenth of a second."""
    left = iter(range(times))

    def look() -> bool:
        session.break_if_stalled(0.1)
        return next(left, None) is None

    until(look, what="the watchdog to look")


class TestAdmission:
    """Grants of a daemon, whose every look at the clock is compared with time that never steps."""

    @pytest.fixture
    def admission(self, conn) -> Admission:
        policies = Policies()
        policies.refresh(conn)
        return Admission(policies, itself)

    def admitted(self, conn: psycopg.Connection, admission: Admission) -> bool:
        insert(conn)
        (email,) = claim(conn, limit=1)
        go, _ = admission.admit(conn, email.lease_id, [Parcel((email,))])
        return bool(go)

    @pytest.fixture
    def keepers(self, database) -> Iterator[list[Keeper]]:
        """Those of two daemons."""
        stop = threading.Event()
        keepers = [
            Keeper(Session(database, "keeper", stop=stop), Session(database, "scout", stop=stop), uuid4(), 1, stop,
                Providers(lambda _: None))
            for _ in range(2)
        ]  # fmt: skip
        yield keepers
        for keeper in keepers:
            keeper.session.close()

    def test_a_table_that_somebody_has_locked_keeps_no_round_from_the_rest(
        self, conn, connect, keepers, caplog
    ):
        keeper, _ = keepers
        conn.execute("select setval('outboxd.email_id_seq', 3000000)")
        reader = connect()
        reader.autocommit = False
        reader.execute("select count(*) from outboxd.email")
        for _ in range(TIDY):
            keeper.round()
        assert (keeper.rounds, keeper.busy) == (TIDY, TIDY)
        assert [one.message for one in caplog.records if one.levelname != "INFO"] == [
            "no partitions made: somebody has a table locked"
        ]
        reader.rollback()
        keeper.round()
        assert keeper.busy == 0
        (made,) = conn.execute(
            "select count(*) from pg_inherits where inhparent = 'outboxd.email'::regclass"
        ).fetchone()
        assert made > 6

    def go_ahead(self, conn: psycopg.Connection, *watches: Watch) -> None:
        """As if the clock went two hours ahead: all that it said before was two hours less."""
        conn.execute(
            "update outboxd.recipient_count"
            " set at = array(select one - %(ahead)s from unnest(at) as one), stale_at = stale_at - %(ahead)s",
            {"ahead": AHEAD},
        )
        for watch in watches:
            watch.base = replace(watch.base, at=watch.base.at - AHEAD)

    def test_the_fourth_mail_in_an_hour_waits_through_a_step(self, conn, admission, caplog):
        assert [self.admitted(conn, admission) for _ in range(3)] == [True] * 3
        self.go_ahead(conn, admission.watch)
        assert not self.admitted(conn, admission)
        assert [line.message for line in caplog.records] == ["the server's clock went ahead; limits count on"]
        assert not self.admitted(conn, admission)
        assert conn.execute("select count(*) from outboxd.clock_step").fetchone() == (1,)

    def test_a_step_that_cannot_be_followed_is_seen_again(self, conn, admission, monkeypatch):
        assert [self.admitted(conn, admission) for _ in range(3)] == [True] * 3
        self.go_ahead(conn, admission.watch)
        with monkeypatch.context() as patched:
            patched.setattr("outboxd.delivery.watch.follow", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                self.admitted(conn, admission)
        assert not self.admitted(conn, admission)

    def test_a_step_is_followed_however_long_it_takes_to_move_the_counts(
        self, conn, connect, database, admission
    ):
        session = Session(database, "claimer", stop=threading.Event(), path=True)
        assert session.run(lambda mine: self.admitted(mine, admission))
        self.go_ahead(conn, admission.watch)
        went: list[bool] = []
        thread = threading.Thread(
            target=lambda: went.append(session.run(lambda mine: self.admitted(mine, admission)))
        )
        other = connect()
        with other.transaction():
            other.execute("select pg_advisory_xact_lock(7101, 5)")  # as if it followed the step
            thread.start()
            until(lambda: waits_for_lock(conn), what="the step to wait")
            until_looked_at(session, 20)
            assert session.connected.is_set(), "the watchdog cut it"
        thread.join()
        session.close()
        assert went == [True]
        assert conn.execute("select count(*) from outboxd.clock_step").fetchone() == (1,)

    def test_what_still_counts_is_not_pruned_before_a_grant_meets_the_step(self, conn, admission, keepers):
        keeper, _ = keepers
        assert [self.admitted(conn, admission) for _ in range(3)] == [True] * 3
        for _ in range(TIDY - 1):
            keeper.round()
        self.go_ahead(conn, admission.watch, keeper.watch)
        keeper.round()
        assert keeper.rounds == TIDY
        assert not self.admitted(conn, admission)
        assert conn.execute("select count(*) from outboxd.clock_step").fetchone() == (1,)

    def test_a_daemon_that_never_saw_the_clock_before_prunes_after_another_moved_the_counts(
        self, conn, admission, keepers
    ):
        keeper, newcomer = keepers
        assert [self.admitted(conn, admission) for _ in range(3)] == [True] * 3
        keeper.round()
        self.go_ahead(conn, admission.watch, keeper.watch)
        for one in (newcomer, keeper, *[newcomer] * (TIDY - 1)):
            one.round()
        assert newcomer.rounds == TIDY
        assert not self.admitted(conn, admission)

    def test_nothing_is_pruned_in_a_round_whose_step_could_not_be_followed(
        self, conn, admission, keepers, monkeypatch
    ):
        keeper, _ = keepers
        assert [self.admitted(conn, admission) for _ in range(3)] == [True] * 3
        for _ in range(TIDY - 1):
            keeper.round()
        self.go_ahead(conn, admission.watch, keeper.watch)
        with monkeypatch.context() as patched:
            patched.setattr("outboxd.delivery.watch.follow", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                keeper.round()
        assert not self.admitted(conn, admission)
