"""The breaker of an account in Postgres: one state and one probe for all daemons, and nothing lost by what it holds."""

import threading
from datetime import timedelta

import psycopg
import pytest
from factories import (
    HOME,
    batched,
    claim,
    claim_batches,
    held,
    insert,
    settle_parcel,
    settler_without_thread,
    state_of,
)

from outboxd.core.batch import Parcel
from outboxd.core.outcome import Ambiguous, Expired, Failed, Failure, Limited, Rejected, Returned, Sent
from outboxd.db import breaker, hold, lease, unanswered
from outboxd.db.hold import Held, Waiter
from outboxd.db.pause import Probe, active
from outboxd.db.session import LockTimeoutError
from outboxd.delivery.breakers import Breakers
from outboxd.delivery.gates import judge
from outboxd.delivery.sender import Result
from outboxd.delivery.settler import settle
from outboxd.delivery.steady import steady

ILL = Ambiguous(Failure("ambiguous", "internal error", status=500))
REFUSED = Failed(Failure("transient", "connection refused"))
PROBE = Probe("breaker", "default", "provider_ill", number=1)


def breakers() -> Breakers:
    return Breakers("default", lambda _: None)


def result(email, outcome, *, probe: Probe | None = None, asked: bool = True) -> Result:
    holder = held(email)
    holder.probe = probe
    return Result(holder, outcome, steady() if asked else None)


def fail(conn: psycopg.Connection, times: int = 10) -> None:
    insert(conn)
    (email,) = claim(conn, limit=1)
    breakers().heard(conn, [result(email, ILL)] * times)
    lease.hand_back(conn, email.lease_id)


def state(conn: psycopg.Connection) -> str:
    return conn.execute("select state from outboxd.breaker where account = 'default'").fetchone()[0]


def probe_due(conn: psycopg.Connection) -> None:
    conn.execute("update outboxd.breaker set probe_at = clock_timestamp()")


@pytest.mark.parametrize(("away", "due"), [("20 s", False), ("10 min", True)])
def test_a_clock_that_went_back_does_not_put_the_probe_off(conn, away, due):
    fail(conn)
    conn.execute(
        "update outboxd.breaker set probe_at = clock_timestamp() + %s::interval, open_for = '30 s'", (away,)
    )
    assert (breaker.probe_due_in(conn, "default") <= 0) == due
    assert (breaker.take_probe(conn, "default") is not None) == due


def test_while_it_is_open_no_claim_finds_anything_and_the_slots_are_closed(conn, connect):
    parcel = batched(conn, connect(), 2)
    settle_parcel(conn, parcel, ILL)
    conn.execute("update outboxd.batch set due_at = clock_timestamp()")
    fail(conn)
    daemon = connect()
    assert claim(daemon) == []
    assert claim_batches(daemon) == []
    assert all(one.closed for one in lease.slots(daemon, "default"))
    assert not any(one.closed for one in lease.slots(daemon, "default", probe=PROBE))
    assert ("breaker", "default") in active(daemon).read()
    assert claim(daemon, limit=1, probe=PROBE)
    assert claim_batches(daemon, limit=1, probe=PROBE)


def test_another_accounts_breaker_closes_nothing(conn):
    insert(conn)
    (email,) = claim(conn, limit=1)
    Breakers("other", lambda _: None).heard(conn, [result(email, ILL)] * 10)
    lease.hand_back(conn, email.lease_id)
    assert claim(conn)


def test_failures_of_two_daemons_count_together_and_who_opens_it_stops_asking(conn, connect):
    insert(conn)
    (email,) = claim(conn, limit=1)
    stopped: list[str] = []
    first = Breakers("default", lambda _: stopped.append("first"))
    second = Breakers("default", lambda _: stopped.append("second"))
    first.heard(connect(), [result(email, ILL)] * 5)
    second.heard(connect(), [result(email, REFUSED)] * 4)
    assert (state(conn), stopped) == ("closed", [])
    second.heard(connect(), [result(email, REFUSED)])
    assert (state(conn), stopped) == ("open", ["second"])


def test_ten_failures_told_by_two_daemons_at_once_open_it_once(conn, connect):
    insert(conn)
    (email,) = claim(conn, limit=1)
    opened: list[int] = []
    daemons = [(Breakers("default", lambda _: opened.append(1)), connect()) for _ in range(2)]

    def tell(one: Breakers, session: psycopg.Connection) -> None:
        for _ in range(10):
            one.heard(session, [result(email, ILL)])

    threads = [threading.Thread(target=tell, args=daemon) for daemon in daemons]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (state(conn), len(opened)) == ("open", 1)


def test_in_the_healthy_case_nothing_is_asked_or_written(conn, connect):
    insert(conn)
    (email,) = claim(conn, limit=1)
    daemon = connect()
    daemon.close()
    breakers().heard(daemon, [result(email, Sent("re_1")), result(email, Rejected(ILL.failure))] * 50)
    assert conn.execute("select count(*) from outboxd.breaker").fetchone() == (0,)


def test_a_breaker_that_an_operators_transaction_holds_is_waited_for_a_moment_only(conn, connect):
    fail(conn)
    operator = connect()
    operator.autocommit = False
    operator.execute("select outboxd.resume('breaker', 'default')")
    conn.execute("set lock_timeout = '10s'")
    conn.execute("set statement_timeout = '3s'")
    with pytest.raises(LockTimeoutError):
        breaker.change(conn, "default", lambda known, _: known)
    probe_due_in = breaker.probe_due_in(conn, "default")
    assert breaker.take_probe(conn, "default") is None
    breaker.put_off_probe(conn, PROBE)
    assert breaker.probe_due_in(conn, "default") <= probe_due_in
    operator.commit()
    assert state(conn) == "closed"


def test_a_success_is_told_until_nothing_is_held_against_the_provider(conn, connect):
    insert(conn)
    (email,) = claim(conn, limit=1)
    daemon, told = connect(), breakers()
    told.heard(daemon, [result(email, ILL)] * 2)
    told.heard(daemon, [result(email, Sent("re_1"))])
    assert conn.execute("select cardinality(failed_at) from outboxd.breaker").fetchone() == (1,)
    told.heard(daemon, [result(email, Sent("re_1"))] * 3)
    assert conn.execute("select cardinality(failed_at) from outboxd.breaker").fetchone() == (0,)
    daemon.close()
    told.heard(daemon, [result(email, Sent("re_1"))])


def test_two_daemons_that_want_the_probe_at_once_get_one(conn, connect):
    fail(conn)
    probe_due(conn)
    first, second = connect(), connect()
    with first.transaction():
        assert breaker.take_probe(first, "default") == PROBE
        taken: list[object] = []
        waiting = threading.Thread(target=lambda: taken.append(breaker.take_probe(second, "default")))
        waiting.start()
    waiting.join()
    assert taken == [None]
    assert (state(conn), breaker.probe_due_in(conn, "default") > 29) == ("half_open", True)


def test_a_probe_whose_daemon_died_is_followed_by_another(conn):
    fail(conn)
    probe_due(conn)
    assert breaker.take_probe(conn, "default")
    assert breaker.take_probe(conn, "default") is None
    probe_due(conn)
    assert breaker.take_probe(conn, "default")


class TestProbe:
    @pytest.fixture
    def probed(self, conn):
        fail(conn)
        probe_due(conn)
        assert breaker.take_probe(conn, "default")
        (email,) = claim(conn, limit=1, probe=PROBE)
        return email

    def settle(self, conn, *results) -> None:
        settler = settler_without_thread()
        settle(settler, conn, results)
        settler.breakers.heard(conn, results)

    def test_its_success_closes_it_and_leaves_the_time_in_the_history(self, conn, probed):
        self.settle(conn, result(probed, Sent("re_1"), probe=PROBE))
        assert state(conn) == "closed"
        (history,) = conn.execute("select history from outboxd.breaker_status").fetchone()
        assert [one["cause"] for one in history] == ["HTTP 500: internal error"]
        assert conn.execute("select kind, key, reason from outboxd.hold").fetchall() == [
            ("breaker", "default", "provider_ill")
        ]

    @pytest.mark.parametrize("outcome", [ILL, REFUSED], ids=["ambiguous", "refused"])
    def test_its_failure_opens_it_again_and_burns_nothing_and_ends_nothing(self, conn, probed, outcome):
        conn.execute("update outboxd.queue set give_up_after = '0', max_attempts = 1")
        self.settle(conn, result(probed, outcome, probe=PROBE))
        assert state(conn) == "open"
        assert breaker.probe_due_in(conn, "default") > 29
        row = conn.execute(
            "select attempts, first_failed_at, ambiguous, first_asked_at is not null from outboxd.progress"
        ).fetchone()
        assert row == (0, None, outcome is ILL, True)
        assert conn.execute("select count(*) from outboxd.ready").fetchone() == (1,)

    def test_one_that_was_not_asked_is_free_again_within_a_second(self, conn, probed):
        self.settle(conn, result(probed, Returned(), probe=PROBE, asked=False))
        assert state(conn) == "open"
        assert 0 < breaker.probe_due_in(conn, "default") <= 1

    def test_one_that_was_stopped_and_is_out_of_the_way_is_free_again_at_once(self, conn, probed):
        self.settle(conn, result(probed, Expired(), probe=PROBE, asked=False))
        assert state(conn) == "open"
        assert breaker.probe_due_in(conn, "default") <= 0

    def test_it_goes_in_spite_of_the_breaker_and_not_of_a_pause(self, probed):
        ill = frozenset({("breaker", "default")})
        parcel = Parcel((probed,))
        assert judge(parcel, HOME, ill, now=probed.claimed_at).outcome == Returned()
        assert judge(parcel, HOME, ill, now=probed.claimed_at, probe=PROBE) is None
        both = ill | {("account", "default")}
        assert judge(parcel, HOME, both, now=probed.claimed_at, probe=PROBE).outcome == Returned()

    def test_a_batch_keeps_its_attempts_and_its_bytes(self, conn, connect):
        parcel = batched(conn, connect(), 2)
        settle_parcel(conn, parcel, REFUSED)
        conn.execute("update outboxd.batch set due_at = clock_timestamp()")
        before = conn.execute("select attempts, first_failed_at, body from outboxd.batch").fetchone()
        fail(conn)
        (again,) = claim_batches(conn, limit=1, probe=PROBE)
        holder = held(*again.emails, batch=again.batch)
        holder.probe = PROBE
        self.settle(conn, Result(holder, ILL, steady()))
        assert conn.execute("select attempts, first_failed_at, body from outboxd.batch").fetchone() == before
        assert conn.execute("select ambiguous from outboxd.batch").fetchone() == (True,)


class TestHeldTime:
    """A first failure 5 h ago, of which 4 h were spent behind a breaker or pause: with 2 h to give up, it goes on."""

    @pytest.fixture
    def failed_before(self, conn):
        id_ = insert(conn)
        (email,) = claim(conn)
        settle_parcel(conn, Parcel((email,)), REFUSED)
        self.long_ago(conn)
        return id_

    def long_ago(self, conn) -> None:
        conn.execute("update outboxd.queue set give_up_after = '2 h', max_attempts = 1")
        for table in ("progress", "batch"):
            conn.execute(
                f"update outboxd.{table} set first_failed_at = clock_timestamp() - interval '5 h' where attempts > 0"
            )
        conn.execute("update outboxd.ready set scheduled_at = clock_timestamp()")
        conn.execute("update outboxd.batch set due_at = clock_timestamp()")

    def hold(self, conn, kind: str, key: str, since: str, until: str) -> None:
        conn.execute(
            "insert into outboxd.hold (kind, key, reason, since, until)"
            " values (%s, %s, 'x', clock_timestamp() - %s::interval, clock_timestamp() - %s::interval)",
            (kind, key, since, until),
        )

    def fail_again(self, conn, id_: int) -> str | None:
        from outboxd.db.policy import Policies

        settler = settler_without_thread()
        settler.policies = Policies()
        settler.policies.refresh(conn)
        (email,) = claim(conn)
        settle(settler, conn, [result(email, REFUSED)])
        return state_of(conn, id_)

    def test_without_a_hold_it_is_dead(self, conn, failed_before):
        assert self.fail_again(conn, failed_before) == "dead"

    @pytest.mark.parametrize(
        ("kind", "key"),
        [("breaker", "default"), ("account", "default"), ("queue", "transactional"), ("type", "welcome"),
         ("domain", "shop.example"), ("provider", "example.org")],
    )  # fmt: skip
    def test_behind_a_breaker_or_pause_that_is_over_it_goes_on(self, conn, failed_before, kind, key):
        self.hold(conn, kind, key, "4 h 30 min", "30 min")
        assert self.fail_again(conn, failed_before) == "retrying"

    def test_behind_the_pause_of_its_campaign_it_goes_on(self, conn):
        id_ = insert(conn, campaign="spring")
        (email,) = claim(conn)
        settle_parcel(conn, Parcel((email,)), REFUSED)
        self.long_ago(conn)
        self.hold(conn, "campaign", "spring", "4 h 30 min", "30 min")
        assert self.fail_again(conn, id_) == "retrying"

    @pytest.mark.parametrize("kind", ["recipient", "tenant", "provider_day"])
    def test_behind_a_limit_it_goes_on(self, conn, failed_before, kind):
        self.limit(conn, kind, hours=4)
        assert self.fail_again(conn, failed_before) == "retrying"

    def test_times_of_a_limit_and_of_a_pause_that_overlap_count_once(self, conn, failed_before):
        self.limit(conn, "tenant", hours=2)
        self.hold(conn, "queue", "transactional", "4 h 30 min", "2 h 30 min")
        assert self.fail_again(conn, failed_before) == "dead", "they are the same 2 h"

    def test_a_turn_behind_a_limit_is_one_time_however_often_it_is_refused(self, conn, failed_before):
        at = conn.execute("select clock_timestamp() - interval '4 h'").fetchone()[0]
        for minute in range(0, 200, 2):
            now = at + timedelta(minutes=minute)
            hold.lengthen(conn, [Held(failed_before, now + timedelta(minutes=1))], now=now)
        held = conn.execute("select held from outboxd.progress").fetchone()[0]
        assert [(one.lower, one.upper) for one in held] == [(at, at + timedelta(minutes=199))]

    def test_of_an_email_that_never_failed_no_time_is_kept(self, conn):
        insert(conn)
        (email,) = claim(conn)
        free_at = email.claimed_at + timedelta(hours=1)
        settle(settler_without_thread(), conn, [result(email, Limited("tenant", "a", free_at), asked=False)])
        assert conn.execute("select count(*) from outboxd.progress").fetchone() == (0,)

    def limit(self, conn, kind: str, *, hours: int) -> None:
        """Claimed and held by a limit 4 h 30 min ago, for so long; then due again."""
        (email,) = claim(conn)
        free_at = email.claimed_at + timedelta(hours=hours)
        settle(settler_without_thread(), conn, [result(email, Limited(kind, "a", free_at), asked=False)])
        conn.execute(
            "update outboxd.progress set held = tstzmultirange("
            "tstzrange(lower(held) - interval '4 h 30 min', upper(held) - interval '4 h 30 min')) where held <> '{}'"
        )
        conn.execute("update outboxd.ready set lane = 0, scheduled_at = clock_timestamp()")

    def test_another_accounts_breaker_gives_no_time(self, conn, failed_before):
        self.hold(conn, "breaker", "other", "4 h 30 min", "30 min")
        assert self.fail_again(conn, failed_before) == "dead"

    def test_times_that_overlap_count_once(self, conn):
        self.hold(conn, "breaker", "default", "4 h", "2 h")
        self.hold(conn, "account", "default", "3 h", "1 h")
        conn.execute(
            "insert into outboxd.pause (kind, key, reason, since, by)"
            " values ('account', 'default', 'x', clock_timestamp() - interval '90 min', 'test')"
        )
        since = conn.execute("select clock_timestamp() - interval '210 min'").fetchone()[0]
        (found,) = hold.held_since(conn, "default", [Waiter(insert(conn), since, "a.example")])
        assert abs(found - timedelta(minutes=210)) < timedelta(seconds=5)

    def test_a_batch_is_given_the_time_back_too(self, conn, connect):
        parcel = batched(conn, connect(), 2)
        settle_parcel(conn, parcel, REFUSED)
        self.long_ago(conn)
        self.hold(conn, "breaker", "default", "4 h 30 min", "30 min")
        (again,) = claim_batches(conn)
        settler = settler_without_thread()
        settler.policies.refresh(conn)
        settle(settler, conn, [Result(held(*again.emails, batch=again.batch), REFUSED, steady())])
        assert conn.execute("select attempts from outboxd.batch").fetchone() == (2,)

    def test_a_batch_behind_a_limit_is_given_the_time_back_too(self, conn, connect):
        parcel = batched(conn, connect(), 2)
        settle_parcel(conn, parcel, REFUSED)
        self.long_ago(conn)
        (again,) = claim_batches(conn)
        free_at = again.first.claimed_at + timedelta(hours=4)
        settle_parcel(conn, again, Limited("tenant", "a", free_at), asked_at=None)
        conn.execute(
            "update outboxd.batch set due_at = clock_timestamp(), lane = 0, held = tstzmultirange("
            "tstzrange(lower(held) - interval '4 h 30 min', upper(held) - interval '4 h 30 min')) where held <> '{}'"
        )
        (again,) = claim_batches(conn)
        settler = settler_without_thread()
        settler.policies.refresh(conn)
        settle(settler, conn, [Result(held(*again.emails, batch=again.batch), REFUSED, steady())])
        assert conn.execute("select attempts from outboxd.batch").fetchone() == (2,)

    def test_every_end_of_a_pause_leaves_its_time(self, conn):
        conn.execute("select outboxd.pause('queue', 'system', 'by hand')")
        conn.execute("select outboxd.pause('queue', 'system', 'again')")
        conn.execute("select outboxd.resume('queue', 'system')")
        assert conn.execute("select kind, key, reason from outboxd.hold order by since").fetchall() == [
            ("queue", "system", "by hand"), ("queue", "system", "again"),
        ]  # fmt: skip

    def test_only_what_is_old_is_pruned(self, conn):
        self.hold(conn, "queue", "system", "40 d", "32 d")
        self.hold(conn, "queue", "system", "40 d", "30 d")
        assert hold.prune(conn) == 1


class TestTwentyThreeHours:
    def asked_long_ago(self, conn, hours: int) -> None:
        for table in ("progress", "batch"):
            conn.execute(
                f"update outboxd.{table} set first_asked_at = clock_timestamp() - %s * interval '1 h'",
                (hours,),
            )

    @pytest.fixture
    def waits(self, conn):
        id_ = insert(conn)
        (email,) = claim(conn)
        settle_parcel(conn, Parcel((email,)), ILL)
        conn.execute("select outboxd.pause('account', 'default', 'test')")
        return id_

    def test_what_waits_behind_a_pause_is_unknown_by_the_clock(self, conn, waits):
        self.asked_long_ago(conn, 23)
        assert lease.any_expired(conn)[0]
        assert unanswered.end(conn) == [waits]
        assert state_of(conn, waits) == "unknown"
        row = conn.execute(
            "select certainty, error_class, attempts, jsonb_array_length(history) from outboxd.dead_letter"
        ).fetchone()
        assert row == ("maybe_accepted", "key_expired", 1, 1)
        assert conn.execute("select count(*) from outboxd.progress").fetchone() == (0,)
        assert not lease.any_expired(conn)[0]

    def test_before_that_it_waits(self, conn, waits):
        self.asked_long_ago(conn, 22)
        assert unanswered.end(conn) == []
        assert state_of(conn, waits) == "blocked"

    def test_a_definite_failure_waits_on(self, conn, monkeypatch):
        monkeypatch.setattr(
            "outboxd.delivery.settler.random.random", lambda: 0.5
        )  # its wait is drawn down to nothing
        id_ = insert(conn)
        (email,) = claim(conn)
        settle_parcel(conn, Parcel((email,)), REFUSED)
        self.asked_long_ago(conn, 30)
        assert unanswered.end(conn) == []
        assert state_of(conn, id_) == "retrying"

    def test_members_of_a_batch_end_with_it(self, conn, connect):
        parcel = batched(conn, connect(), 3)
        settle_parcel(conn, parcel, ILL)
        self.asked_long_ago(conn, 23)
        assert sorted(unanswered.end(conn)) == sorted(email.id for email in parcel.emails)
        for table in ("batch", "batch_member", "progress"):
            assert conn.execute(f"select count(*) from outboxd.{table}").fetchone() == (0,)

    def test_what_is_in_hand_is_left_to_its_lease(self, conn, waits, connect):
        conn.execute("select outboxd.resume('account', 'default')")
        conn.execute("update outboxd.ready set scheduled_at = clock_timestamp()")
        (email,) = claim(connect())
        self.asked_long_ago(conn, 24)
        assert unanswered.end(conn) == []
        assert email.id == waits

    def test_a_claim_in_progress_is_skipped_and_not_waited_for(self, conn, waits, connect):
        self.asked_long_ago(conn, 24)
        other = connect()
        with other.transaction():
            other.execute("select from outboxd.ready for update")
            assert unanswered.end(conn) == []
        assert unanswered.end(conn) == [waits]

    def test_an_acceptance_that_is_known_is_left_to_end_it_as_sent(self, conn, waits):
        self.asked_long_ago(conn, 24)
        conn.execute(
            "insert into outboxd.word (id, kind, provider_id) values (%s, 'accepted', 're_1')", (waits,)
        )
        assert unanswered.end(conn) == []

    def test_a_round_is_bounded(self, conn):
        for _ in range(5):
            insert(conn)
        for email in claim(conn):
            settle_parcel(conn, Parcel((email,)), ILL)
        self.asked_long_ago(conn, 24)
        assert len(unanswered.end(conn, limit=2)) == 2


class TestByHand:
    def log(self, conn) -> list:
        return conn.execute("select action, kind, key from outboxd.operator_log order by id").fetchall()

    def test_resume_closes_a_breaker_and_writes_the_operators_log(self, conn):
        fail(conn)
        assert conn.execute("select outboxd.resume('breaker', 'default')").fetchone() == (True,)
        assert state(conn) == "closed"
        assert claim(conn, limit=1)
        assert conn.execute("select outboxd.resume('breaker', 'default')").fetchone() == (False,)
        assert self.log(conn) == [("resume", "breaker", "default")]

    def test_pauses_by_hand_are_logged_with_their_reason(self, conn):
        conn.execute("select outboxd.pause('domain', 'Shop.Example', 'DNS moves')")
        conn.execute("select outboxd.resume('domain', 'shop.example')")
        conn.execute("select outboxd.resume('domain', 'shop.example')")
        assert self.log(conn) == [("pause", "domain", "shop.example"), ("resume", "domain", "shop.example")]
        (detail,) = conn.execute("select detail from outboxd.operator_log order by id limit 1").fetchone()
        assert detail == {"reason": "DNS moves", "until": None}

    def test_an_open_breaker_is_seen_where_people_look(self, conn):
        fail(conn)
        paused, blocked, reason = conn.execute(
            "select paused, blocked, pause_reason from outboxd.queue_status where queue = 'transactional'"
        ).fetchone()
        assert (paused, blocked, reason) == (True, 1, "breaker default: provider_ill")
        row = conn.execute("select state, failures, cause from outboxd.breaker_status").fetchone()
        assert row == ("open", 10, "HTTP 500: internal error")
        assert conn.execute("select distinct state from outboxd.email_status").fetchall() == [("blocked",)]
