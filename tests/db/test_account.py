"""The shared pace of an account: its bucket, the block after an overrun, and the rate that refusals teach."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from waiting import until

from outboxd.db import account
from outboxd.db.account import Rate
from outboxd.db.session import Session
from outboxd.delivery.pacer import SHARE, Pacer

SECOND = timedelta(seconds=1)
SLOP = 0.2  # seconds that a statement may take here


@pytest.fixture
def conn(conn: psycopg.Connection) -> psycopg.Connection:
    account.ensure(conn, "default")
    return conn


def have(
    conn: psycopg.Connection, rate: float | None, adapted: float | None = None, *, overran: float = 1e6
) -> None:
    """The account's rates, and how many seconds ago it overran; its pace is used up."""
    conn.execute(
        "update outboxd.account set rate = %s, adapted = %s, adapted_at = null,"
        " overran_at = clock_timestamp() - make_interval(secs => %s), next_at = clock_timestamp() + interval '30 s'",
        (rate, adapted, overran),
    )


def rate(conn: psycopg.Connection) -> Rate:
    return Rate(*conn.execute("select rate, adapted from outboxd.account").fetchone())


def draw(conn: psycopg.Connection, wanted: int, seconds: float) -> list[float]:
    """When requests may leave that are drawn one after the other for so long, by this process's clock."""
    leaves: list[float] = []
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        _, grants, due_in = account.reserve(conn, "default", wanted, share=SHARE)
        leaves += [max(time.monotonic(), now + due_in)] * grants
        if leaves[-1] > began + seconds:
            break
    return leaves


class TestTheBucket:
    @pytest.mark.parametrize(("named", "wanted", "capacity"), [(40.0, 1, 4), (40.0, 100, 4), (8.0, 5, 1)])
    def test_no_more_leave_than_the_rate_allows_and_its_capacity_and_hardly_fewer(
        self, conn, connect, named, wanted, capacity
    ):
        conn.execute(
            "update outboxd.account set rate = %s, next_at = clock_timestamp() - interval '1 h'", (named,)
        )
        with ThreadPoolExecutor(3) as pool:
            found = [
                at for drawn in pool.map(lambda _: draw(connect(), wanted, 2.0), range(3)) for at in drawn
            ]
        at = sorted(found)
        for first in range(len(at)):
            for last in range(first, len(at)):
                allowed = SHARE * named * (at[last] - at[first] + 0.05) + capacity
                assert last - first + 1 <= allowed + 1e-6
        assert len(at) >= SHARE * named * 2.0

    @pytest.mark.parametrize("reserved", ["2 s", "30 s"])
    def test_a_clock_that_went_back_makes_nobody_wait_until_it_is_there_again(self, conn, reserved):
        conn.execute("update outboxd.account set rate = 10, next_at = clock_timestamp()")
        account.reserve(conn, "default", 1, share=SHARE)
        conn.execute(  # as ten minutes back leave it
            "update outboxd.account set drawn_at = clock_timestamp() + interval '10 min',"
            " next_at = clock_timestamp() + interval '10 min' + %s::interval",
            (reserved,),
        )
        due_in = account.reserve(conn, "default", 1, share=SHARE)[2]
        assert due_in == pytest.approx(2.0 if reserved == "2 s" else 30.0, abs=SLOP)

    @pytest.mark.parametrize(("named", "capacity"), [(2.0, 1), (10.0, 1), (35.0, 3), (200.0, 20)])
    def test_at_most_a_tenth_of_a_second_is_granted_at_a_time_and_at_least_one(self, conn, named, capacity):
        conn.execute("update outboxd.account set rate = %s", (named,))
        assert account.reserve(conn, "default", 1000, share=SHARE)[1] == capacity

    def test_it_is_paced_at_the_share_that_policy_names(self, conn):
        have(conn, 10.0)
        first = account.reserve(conn, "default", 1, share=0.5)[2]
        assert account.reserve(conn, "default", 1, share=0.5)[2] - first == pytest.approx(1 / 9.7, abs=0.03)
        conn.execute("""select outboxd.set_limit('account', '{"pace": 0.2}')""")
        first = account.reserve(conn, "default", 1, share=SHARE)[2]
        assert account.reserve(conn, "default", 1, share=SHARE)[2] - first == pytest.approx(1 / 2, abs=0.03)
        conn.execute("""select outboxd.set_limit('account', null)""")
        first = account.reserve(conn, "default", 1, share=0.5)[2]
        assert account.reserve(conn, "default", 1, share=0.5)[2] - first == pytest.approx(1 / 5, abs=0.03)

    def test_the_lower_of_the_named_and_the_adapted_rate_is_obeyed(self, conn):
        for named, adapted, obeyed in (
            (10.0, 4.0, 4.0),
            (10.0, 40.0, 10.0),
            (None, 5.0, 5.0),
            (5.0, None, 5.0),
        ):
            have(conn, named, adapted)
            assert Rate(named, adapted).obeyed == obeyed
            first = account.reserve(conn, "default", 1, share=SHARE)[2]
            step = account.reserve(conn, "default", 1, share=SHARE)[2] - first
            assert step == pytest.approx(1 / (SHARE * obeyed), abs=0.03)
        have(conn, None)
        assert account.reserve(conn, "default", 7, share=SHARE) == (Rate(None), 7, 0.0)


class TestAnOverrun:
    def blocked(self, conn: psycopg.Connection, ago: float | None, after: timedelta) -> float:
        """How long all daemons wait after an overrun, `ago` seconds after the one before."""
        conn.execute("update outboxd.account set next_at = clock_timestamp(), overran_at = null")
        if ago is not None:
            conn.execute(
                "update outboxd.account set overran_at = clock_timestamp() - make_interval(secs => %s)",
                (ago,),
            )
        account.overran(conn, "default", after)
        return account.reserve(conn, "default", 1, share=SHARE)[2]

    @pytest.mark.parametrize(
        ("ago", "after", "rest"),
        [
            (None, 1, 1), (None, 4, 4),  # what it asked for
            (1, 1, 1),  # the same overrun, seen by several requests
            (3, 1, 10), (59, 1, 10), (30, 25, 25),  # the second in a minute
            (61, 1, 1),
        ],
    )  # fmt: skip
    def test_nobody_asks_for_as_long_as_it_said_and_for_ten_seconds_at_the_second_in_a_minute(
        self, conn, ago, after, rest
    ):
        assert rest - SLOP <= self.blocked(conn, ago, timedelta(seconds=after)) <= rest

    def test_a_shorter_one_does_not_end_a_longer_block(self, conn):
        account.overran(conn, "default", timedelta(seconds=20))
        assert account.overran(conn, "default", SECOND) >= 20 - SLOP


class TestSlowingDown:
    @pytest.mark.parametrize(
        ("named", "adapted", "passed", "slowed"),
        [
            (10.0, None, 4, 3.6), (10.0, None, 9, 8.1), (10.0, None, 30, 9.0), (10.0, None, 0, 2.0),
            (10.0, 5.0, 3, 2.7), (10.0, 5.0, 5, 4.5),
            (None, 4.0, 2, 1.8), (None, None, 3, 10.0), (None, None, 300, 270.0),
        ],
    )  # fmt: skip
    def test_it_goes_down_to_what_was_let_through_within_bounds(self, conn, named, adapted, passed, slowed):
        have(conn, named, adapted)
        account.overran(conn, "default", SECOND, passed=passed)
        assert rate(conn) == Rate(named, pytest.approx(slowed))

    @pytest.mark.parametrize(
        ("ago", "passed", "slowed"), [(59, 30, 6.0), (30, 5, 4.5), (30, 0, 2.0), (61, 30, 9.0)]
    )
    def test_the_second_in_a_minute_slows_it_down_by_more(self, conn, ago, passed, slowed):
        have(conn, None, 10.0, overran=ago)
        account.overran(conn, "default", SECOND, passed=passed)
        assert rate(conn).adapted == pytest.approx(slowed)

    @pytest.mark.parametrize("named", [10.0, None])
    def test_a_provider_that_refuses_everything_for_a_minute_does_not_slow_it_down_to_nothing(
        self, conn, named
    ):
        """A rate rises only where it is used, a thirtieth at a time: from a thousandth a second it would take a day."""
        have(conn, named, 10.0)
        for _ in range(6):
            account.overran(conn, "default", SECOND)
            conn.execute("update outboxd.account set overran_at = overran_at - interval '10 s'")
        assert rate(conn) == Rate(named, 1.0)

    def test_a_provider_that_names_less_than_one_a_second_is_obeyed(self, conn):
        have(conn, 0.5)
        account.overran(conn, "default", SECOND)
        assert rate(conn).obeyed == 0.5

    def test_what_one_of_several_daemons_saw_is_taken_for_all(self, conn):
        have(conn, None, 100.0)
        for _ in range(4):
            conn.execute(
                "insert into outboxd.worker (worker, host, pid, version, threads) values (gen_random_uuid(), 'h', 1, '1', 1)"
            )
        account.overran(conn, "default", SECOND, passed=12)
        assert rate(conn).adapted == pytest.approx(43.2)

    def test_a_figure_that_fell_explains_it(self, conn):
        have(conn, 2.0)
        account.overran(conn, "default", SECOND, passed=5, explained=True)
        assert rate(conn) == Rate(2.0)

    def test_refusals_of_what_was_on_its_way_are_one(self, conn):
        have(conn, 10.0)
        for _ in range(5):
            account.overran(conn, "default", SECOND, passed=5)
        assert rate(conn).adapted == pytest.approx(4.5)

    def test_refusals_that_go_on_slow_it_down_again_however_close_together_they_come(self, conn):
        """A second after a refusal the next one: else a rate far above the provider's would never fall."""
        have(conn, None)
        adapted = []
        for _ in range(3):
            account.overran(conn, "default", SECOND, passed=2)
            adapted.append(rate(conn).adapted)
            conn.execute("update outboxd.account set overran_at = overran_at - interval '1.3 s'")
        assert adapted == [10.0, 10.0, pytest.approx(2.0)]

    def test_an_overrun_of_a_clock_that_was_ahead_is_over_two_seconds_after_the_next_refusal(self, conn):
        have(conn, None, 10.0, overran=-3600)
        account.overran(conn, "default", SECOND, passed=2)
        conn.execute("update outboxd.account set overran_at = overran_at - interval '2 s'")
        account.overran(conn, "default", SECOND, passed=2)
        assert rate(conn).adapted == pytest.approx(2.0)


class TestSpeedingUp:
    def test_after_a_minute_it_rises_by_a_thirtieth_a_second(self, conn):
        have(conn, 10.0, 4.0, overran=59)
        assert account.adapt(conn, "default") == Rate(10.0, 4.0)
        have(conn, 10.0, 4.0, overran=61)
        assert account.adapt(conn, "default") == Rate(10.0, pytest.approx(4.12))
        assert account.adapt(conn, "default") == Rate(10.0, pytest.approx(4.12)), "once a second"

    def test_one_that_is_nearly_nothing_is_one_a_second_at_once(self, conn):
        have(conn, 10.0, 0.003, overran=61)
        assert account.adapt(conn, "default") == Rate(10.0, 1.0)

    @pytest.mark.parametrize(("named", "adapted"), [(10.0, 9.9), (None, 9_990.0), (0.5, 0.1)])
    def test_at_the_named_rate_it_is_forgotten(self, conn, named, adapted):
        have(conn, named, adapted)
        assert account.adapt(conn, "default") == Rate(named)

    def test_a_rate_that_is_not_used_does_not_rise(self, conn):
        have(conn, 10.0, 4.0)
        conn.execute("update outboxd.account set next_at = clock_timestamp() - interval '1 s'")
        assert account.adapt(conn, "default") == Rate(10.0, 4.0)

    def test_one_daemon_of_all_is_elected(self, conn, connect):
        have(conn, 10.0, 4.0)
        other = connect()
        with other.transaction():
            other.execute("select pg_advisory_xact_lock(7101, 4)")
            assert account.adapt(conn, "default") == Rate(10.0, 4.0)
        assert account.adapt(conn, "default").adapted > 4.0


class TestTheNamedRate:
    @pytest.mark.parametrize(("before", "after"), [(10.0, 5.0), (10.0, None), (None, 10.0), (0.3, 0.1)])
    def test_it_is_kept_in_place_of_the_one_that_was_known(self, conn, before, after):
        have(conn, before)
        account.learn(conn, "default", after, instead=before)
        assert rate(conn).named == after

    @pytest.mark.parametrize(("newer", "late"), [(20.0, 5.0), (5.0, 20.0), (None, 5.0), (5.0, None)])
    def test_a_late_answer_at_one_daemon_does_not_put_an_old_rate_over_a_newer_one(
        self, conn, database, newer, late
    ):
        have(conn, newer)
        stop = threading.Event()
        heard: list[float | None] = []
        pacer = Pacer(Session(database, "pacer", stop=stop, path=True), "default", stop, heard.append)
        pacer.heard(late)  # while it had no connection
        pacer._round(pacer.session.connection())
        pacer.session.close()
        assert rate(conn).named == newer
        assert heard == [late, newer], "it goes by the newer one itself"

    def test_one_that_changes_again_and_again_is_told_in_order(self, conn, database):
        stop = threading.Event()
        pacer = Pacer(Session(database, "pacer", stop=stop, path=True), "default", stop, lambda _: None)
        for named in (5.0, None, 7.0):
            pacer.heard(named)
        pacer._round(pacer.session.connection())
        pacer.session.close()
        assert rate(conn).named == 7.0

    def test_that_of_an_account_that_nobody_knew_is_kept(self, conn):
        account.learn(conn, "other", 3.0, instead=10.0)
        assert conn.execute("select rate from outboxd.account where name = 'other'").fetchone() == (3.0,)


def test_the_pacer_outlives_a_statement_that_is_refused_and_tells_its_news_all_the_same(database, conn):
    stop = threading.Event()
    pacer = Pacer(Session(database, "pacer", stop=stop, path=True), "default", stop, lambda _: None)
    thread = threading.Thread(target=pacer.run)
    thread.start()
    waits = "select pid from pg_stat_activity where application_name = 'outboxd pacer' and wait_event_type = 'Lock'"
    try:
        until(lambda: pacer.take(0.1), what="a permit")
        with psycopg.connect(database) as other:
            other.execute("select from outboxd.account for update")
            pacer.overran(timedelta(seconds=30))
            (pid,) = until(lambda: conn.execute(waits).fetchone(), what="the pacer to wait for the row")
            conn.execute("select pg_cancel_backend(%s)", (pid,))
            until(lambda: conn.execute(waits).fetchone() != (pid,), what="its statement to be refused")
        told = "select next_at > clock_timestamp() + interval '20 s' from outboxd.account"
        until(lambda: conn.execute(told).fetchone() == (True,), what="the overrun to be known")
        assert thread.is_alive()
    finally:
        stop.set()
        pacer.close()
        thread.join(10)
        pacer.session.close()
