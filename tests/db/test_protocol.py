"""The interleavings that break the design when a rule is left out: named connections, one order of steps each."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from factories import (
    HOME,
    claim,
    held,
    insert,
    judged,
    payload,
    settle,
    settlement,
    settler_without_thread,
    slot,
    state_of,
    uid_of,
)
from waiting import until

from outboxd.core.outcome import Ambiguous, Failed, Failure, Paused, Rejected, Returned, Sent
from outboxd.db import lease, pause, unanswered, word
from outboxd.db.migrate import migrate
from outboxd.db.policy import Policies
from outboxd.db.session import Session
from outboxd.delivery.gates import held_by
from outboxd.delivery.reclaimer import Reclaimer
from outboxd.delivery.sender import Result
from outboxd.delivery.settler import settle as settle_batch
from outboxd.delivery.steady import steady

AGAIN = Failed(Failure("transient", "connection refused"))
OPEN = Ambiguous(Failure("ambiguous", "time-out"))


def waits_for_lock(conn: psycopg.Connection, waiter: psycopg.Connection) -> bool:
    pid = waiter.info.backend_pid
    return conn.execute(
        "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s", (pid,)
    ).fetchone()[0]


def in_ready(conn: psycopg.Connection, id_: int) -> int:
    return conn.execute("select count(*) from outboxd.ready where id = %s", (id_,)).fetchone()[0]


def words(conn: psycopg.Connection) -> list[tuple]:
    return conn.execute("select id, kind from outboxd.word order by id, kind").fetchall()


def lease_count(conn: psycopg.Connection) -> int:
    return conn.execute("select count(*) from outboxd.lease").fetchone()[0]


def make_due(conn: psycopg.Connection) -> None:
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp() - interval '1 s'")


class TestRule1FenceIsMembership:
    def test_a_replayed_settle_changes_nothing_once_another_lease_has_the_email(self, connect):
        a, b = connect(), connect()
        id_ = insert(a)
        (mine,) = claim(a)
        settle(a, (mine, AGAIN))  # committed, but say the answer was lost
        make_due(a)
        (theirs,) = claim(b)
        assert settle(a, (mine, AGAIN)) == {}
        assert in_ready(b, id_) == 0
        assert settle(b, (theirs, Sent("re_1"))) == {(theirs.lease_id, id_): "sent"}

    def test_a_settle_by_the_right_lease_ignores_an_email_that_left_it(self, connect):
        a = connect()
        first, second = insert(a), insert(a)
        one, two = claim(a)
        settle(a, (one, AGAIN))
        make_due(a)
        claim(connect())
        assert settle(a, (one, Rejected(Failure("message", "no"))), (two, Sent("re_2"))) == {
            (two.lease_id, second): "sent"
        }
        assert state_of(a, first) == "sending"


class TestRule2LateAcceptance:
    def test_a_settle_waits_for_evidence_about_its_email_and_ends_it_as_sent(self, connect):
        evidence, settler, look = connect(), connect(), connect()
        id_ = insert(look)
        (email,) = claim(settler)
        evidence.autocommit = False
        evidence.execute("select lease_id from outboxd.lease where %s = any (ids) for share", (id_,))
        evidence.execute(
            "insert into outboxd.word (id, kind, provider_id) values (%s, 'accepted', 're_late')", (id_,)
        )
        exhausted = replace(email, max_attempts=1)
        thread = threading.Thread(target=settle, args=(settler, (exhausted, OPEN)))
        thread.start()
        until(lambda: waits_for_lock(look, settler), what="the settle to wait for the evidence")
        evidence.commit()
        thread.join()
        assert state_of(look, id_) == "sent"

    def test_evidence_waits_for_the_settle_of_its_email(self, connect):
        evidence, settler, look = connect(), connect(), connect()
        id_ = insert(look)
        (email,) = claim(settler)
        settler.autocommit = False
        settler.execute("select lease_id from outboxd.lease for update")
        thread = threading.Thread(
            target=word.accepted, args=(evidence, [settlement(email, Sent("re_late"), asked_ago=1.0)])
        )
        thread.start()
        try:
            until(
                lambda: waits_for_lock(look, evidence), within=5, what="the evidence to wait for the settle"
            )
        finally:
            settler.rollback()
            thread.join()
        assert look.execute("select id, provider_id from outboxd.word").fetchall() == [(id_, "re_late")]

    def test_evidence_holds_leases_in_the_order_of_settles_so_that_neither_waits_for_the_other(self, connect):
        evidence, settler, look = connect(), connect(), connect()
        insert(look)
        first = claim(settler, lease_id=UUID(int=2))
        insert(look)
        second = claim(settler, lease_id=UUID(int=1))
        late = [settlement(email, Sent(f"re_{email.id}"), asked_ago=1.0) for email in (*first, *second)]
        settler.autocommit = False
        settler.execute("select from outboxd.lease where lease_id = %s for update", (UUID(int=1),))
        thread = threading.Thread(target=word.accepted, args=(evidence, late))
        thread.start()
        try:
            until(lambda: waits_for_lock(look, evidence), what="the evidence to wait for the settle")
            look.execute("select from outboxd.lease where lease_id = %s for update nowait", (UUID(int=2),))
        finally:
            settler.rollback()
            thread.join()
        assert look.execute("select count(*) from outboxd.word").fetchone() == (2,)

    def test_evidence_after_the_burial_raises_the_email_from_the_dead(self, connect):
        a = connect()
        id_ = insert(a)
        (email,) = claim(a)
        settle(a, (replace(email, max_attempts=1), OPEN))
        assert state_of(a, id_) == "unknown"
        word.accepted(a, [settlement(email, Sent("re_late"), asked_ago=1.0)])
        assert state_of(a, id_) == "sent"
        late = a.execute("select fenced, provider_id from outboxd.attempt where outcome = 'sent'").fetchall()
        assert late == [(False, "re_late")]

    def test_evidence_that_crossed_with_a_settle_is_applied_by_the_sweep(self, connect):
        evidence, a = connect(), connect()
        id_ = insert(a)
        (email,) = claim(a)
        evidence.autocommit = False
        evidence.execute(
            "insert into outboxd.word (id, kind, provider_id) values (%s, 'accepted', 're_x')", (id_,)
        )
        settle(a, (replace(email, max_attempts=1), OPEN))
        evidence.commit()
        assert state_of(a, id_) == "unknown"
        assert word.apply(a) == [id_]
        assert state_of(a, id_) == "sent"

    def test_words_that_cannot_be_applied_yet_do_not_keep_back_the_others(self, connect):
        a = connect()
        waiting = [insert(a) for _ in range(word.SWEEP + 1)]
        a.execute("update outboxd.ready set lane = -1000")
        dead, gone = insert(a), insert(a)
        for email in claim(a):
            settle(a, (email, Rejected(Failure("message", "no")) if email.id == dead else Sent("re_1")))
        for id_ in [*waiting, dead, gone]:
            a.execute(
                "insert into outboxd.word (id, kind, provider_id) values (%s, 'accepted', 're_late')", (id_,)
            )
        a.execute("insert into outboxd.word (id, kind) values (%s, 'cancel')", (dead,))
        assert word.apply(a) == [dead]
        assert words(a) == [(id_, "accepted") for id_ in waiting]

    def test_a_claim_refuses_an_email_whose_acceptance_is_recorded(self, connect):
        a = connect()
        id_ = insert(a)
        (email,) = claim(a)
        settle(a, (email, OPEN))
        make_due(a)
        word.accepted(a, [settlement(email, Sent("re_late"), asked_ago=1.0)])
        (again,) = claim(a)
        assert judged(again) == Sent("re_late")
        settle(a, (again, judged(again)), asked_ago=None)
        assert state_of(a, id_) == "sent"

    def test_evidence_of_an_email_that_a_failover_forgot_is_not_taken_for_the_one_with_its_id(self, connect):
        a = connect()
        id_ = insert(a)
        (email,) = claim(a)
        settle(a, (email, OPEN))
        make_due(a)
        forgotten = replace(email, uid=uuid4())  # of a lost tail: the id was given again
        assert word.accepted(a, [settlement(forgotten, Sent("re_late"), asked_ago=1.0)]) == []
        (again,) = claim(a)
        assert judged(again) is None
        assert a.execute("select count(*) from outboxd.word").fetchone() == (0,)
        assert state_of(a, id_) == "sending"


class TestRule3LostAnswerOfAClaim:
    def test_handing_back_waits_for_the_pending_claim_and_returns_its_emails(self, connect):
        pending, look = connect(), connect()
        id_ = insert(look)
        lease_id = uuid4()
        pending.autocommit = False
        pending.execute("delete from outboxd.ready where id = %s", (id_,))
        pending.execute(
            "insert into outboxd.lease values (%s, %s, %s, '{}', now(), now() + interval '1 min')",
            (lease_id, uuid4(), [id_]),
        )
        doubter = connect()
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(lease.hand_back(doubter, lease_id)))
        thread.start()
        until(lambda: waits_for_lock(look, doubter), what="the question to wait for the pending claim")
        pending.commit()
        thread.join()
        assert found == [1]
        assert state_of(look, id_) == "ready"

    def test_a_claim_that_never_happened_hands_back_nothing(self, connect):
        a = connect()
        assert lease.hand_back(a, uuid4()) == 0
        assert a.execute("select count(*) from outboxd.lease").fetchone() == (0,)


class TestRule4LeasesThatRunShort:
    def test_what_cannot_begin_in_time_is_handed_back_without_burning_anything(self, connect):
        a = connect()
        id_ = insert(a)
        (email,) = claim(a)
        settle(a, (email, Returned()), asked_ago=None)
        assert state_of(a, id_) == "ready"
        assert a.execute("select count(*) from outboxd.progress").fetchone() == (0,)
        (again,) = claim(a)
        assert (again.attempts, again.crash_streak, again.ambiguous) == (0, 0, False)


class TestRule5BadTextOfAProvider:
    @pytest.mark.parametrize("bad", ["nul \x00 inside", "lone \ud800 surrogate"])
    def test_one_unstorable_outcome_costs_its_text_and_nothing_else(self, connect, bad):
        a = connect()
        ids = [insert(a) for _ in range(5)]
        emails = claim(a)
        results = [Result(held(email), Sent(f"re_{email.id}"), steady()) for email in emails]
        results[2] = Result(held(emails[2]), Rejected(Failure("message", bad, status=422)), steady())
        settle_batch(settler_without_thread(), a, results)
        assert [state_of(a, id_) for id_ in ids] == ["sent", "sent", "dead", "sent", "sent"]
        assert a.execute("select http_status, message from outboxd.dead_letter").fetchone() == (
            422,
            "message: its text could not be stored",
        )

    def test_what_is_written_in_halves_is_heard_once(self, connect):
        a = connect()
        a.execute("create table public.begun (n integer)")
        a.execute(
            "create function public.note_begun() returns trigger language plpgsql as"
            " $$ begin insert into public.begun values (1); return null; end $$"
        )
        a.execute(
            "create trigger begun before insert on outboxd.pause for each statement execute function public.note_begun()"
        )
        for _ in range(4):
            insert(a)
        emails = claim(a)
        results = [Result(held(email), Sent(f"re_{email.id}"), steady()) for email in emails]
        refusal = Paused(Failure("pause", "wrong key", status=401), reason="key")
        results[1] = Result(held(emails[1]), refusal, steady())
        results[2] = Result(held(emails[2]), Rejected(Failure("message", "nul \x00")), steady())
        settle_batch(settler_without_thread(), a, results)
        assert a.execute("select count(*) from public.begun").fetchone() == (1,)


class TestRule6WhatTheLeaseCarries:
    def test_a_killed_first_ask_is_repeated_with_the_serialiser_of_its_lease(self, connect):
        a = connect()
        insert(a)
        claim(a, ttl=timedelta(seconds=-1), frozen=replace(HOME, serialiser=1, tag="first_tag"))
        lease.reclaim(a, crash_limit=0)
        (again,) = claim(a, frozen=replace(HOME, serialiser=9, tag="newer_tag"))
        assert (again.frozen.serialiser, again.frozen.tag) == (1, "first_tag")
        assert again.ambiguous


class TestRule7MissingPayload:
    def test_an_email_whose_row_is_gone_ends_with_a_reason(self, connect):
        a = connect()
        id_ = insert(a)
        a.execute("delete from outboxd.email where id = %s", (id_,))
        (email,) = claim(a)
        outcome = judged(email)
        assert outcome.failure.kind == "payload_missing"
        settle(a, (email, outcome), asked_ago=None)
        assert a.execute("select id, error_class from outboxd.dead_letter").fetchall() == [
            (id_, "payload_missing")
        ]


class TestRule8RebuildAndClaim:
    @pytest.mark.parametrize("ended", ["sent", "dead"])
    def test_a_claim_refuses_an_email_that_has_an_outcome(self, connect, ended):
        a = connect()
        id_ = insert(a)
        (email,) = claim(a)
        settle(a, (email, Sent("re_1") if ended == "sent" else Rejected(Failure("message", "no"))))
        a.execute(
            "insert into outboxd.ready (id, queue, priority, scheduled_at) values (%s, 1, 1, now())", (id_,)
        )
        (again,) = claim(a)
        settle(a, (again, judged(again)), asked_ago=None)
        assert state_of(a, id_) == ended
        assert a.execute("select count(*) from outboxd.lease").fetchone() == (0,)

    def test_rebuild_puts_back_only_what_is_in_no_table_of_a_state(self, connect):
        a = connect()
        waiting, leased, sent, dead, lost = (insert(a) for _ in range(5))
        emails = {email.id: email for email in claim(a)}
        settle(a, (emails[waiting], Returned()), asked_ago=None)
        settle(a, (emails[sent], Sent("re_1")), (emails[dead], Rejected(Failure("message", "no"))))
        a.execute("update outboxd.lease set ids = array_remove(ids, %s)", (lost,))
        assert a.execute("select outboxd.rebuild_ready(1, 1000)").fetchone() == (1,)
        states = [state_of(a, id_) for id_ in (waiting, leased, sent, dead, lost)]
        assert states == ["ready", "sending", "sent", "dead", "ready"]
        assert a.execute("select ambiguous from outboxd.progress where id = %s", (lost,)).fetchone() == (
            True,
        )

    def test_rebuild_restores_a_truncated_ready_without_doubt_when_told_so(self, connect):
        a = connect()
        ids = [insert(a) for _ in range(3)]
        a.execute("truncate outboxd.ready")
        assert a.execute("select outboxd.rebuild_ready(1, 1000, true)").fetchone() == (3,)
        assert [email.ambiguous for email in claim(a)] == [False] * 3
        assert a.execute("select outboxd.rebuild_ready(1, 1000, true)").fetchone() == (0,)
        assert len(ids) == 3


class TestRule10ApplicationsHoldNothingThatTheDaemonNeeds:
    def test_settle_does_not_wait_for_an_open_transaction_on_the_same_dedupe_key(self, connect):
        app, daemon = connect(), connect()
        id_ = insert(app, dedupe_key="welcome:42")
        (email,) = claim(daemon)
        app.autocommit = False
        app.execute("select * from outboxd.dedupe where key = 'welcome:42' for update")
        daemon.execute("set statement_timeout = '2s'")
        settle(daemon, (email, Sent("re_1")))
        assert state_of(daemon, id_) == "sent"

    def test_settle_and_reclaim_do_not_wait_for_an_open_cancel(self, connect):
        app, daemon = connect(), connect()
        held, other = insert(daemon), insert(daemon)
        emails = {email.id: email for email in claim(daemon)}
        settle(daemon, (emails[held], Returned()), asked_ago=None)
        app.autocommit = False
        assert app.execute("select outboxd.cancel(%s)", (uid_of(daemon, held),)).fetchone() == (True,)
        assert app.execute("select outboxd.cancel(%s)", (uid_of(daemon, other),)).fetchone() == (False,)
        daemon.execute("set statement_timeout = '2s'")
        assert claim(daemon) == []
        settle(daemon, (emails[other], Sent("re_1")))
        assert state_of(daemon, other) == "sent"

    @pytest.mark.parametrize("outcome", [Sent("re_1"), Rejected(Failure("message", "no")), AGAIN])
    def test_settle_does_not_wait_for_a_cancel_that_is_said_again(self, connect, outcome):
        app, daemon = connect(), connect()
        id_ = insert(daemon)
        (email,) = claim(daemon)
        self.cancel_again_and_stay(app, id_)
        daemon.execute("set lock_timeout = '1s'")
        settle(daemon, (email, outcome))
        assert state_of(daemon, id_) == {Sent: "sent", Rejected: "dead", Failed: "cancelled"}[type(outcome)]
        assert word.apply(daemon) == []
        assert words(daemon) == [(id_, "cancel")]
        app.commit()
        word.apply(daemon)
        assert words(daemon) == []

    def test_reclaim_does_not_wait_for_a_cancel_that_is_said_again(self, connect):
        app, daemon = connect(), connect()
        id_ = insert(daemon)
        claim(daemon, ttl=timedelta(seconds=-1))
        self.cancel_again_and_stay(app, id_)
        daemon.execute("set lock_timeout = '1s'")
        lease.reclaim(daemon, crash_limit=1)
        assert state_of(daemon, id_) == "unknown"
        app.commit()
        word.apply(daemon)
        assert words(daemon) == []

    def test_the_end_of_what_was_never_answered_does_not_wait_for_a_cancel_that_is_said_again(self, connect):
        app, daemon = connect(), connect()
        id_ = insert(daemon)
        (email,) = claim(daemon)
        settle(daemon, (email, OPEN))
        self.cancel_again_and_stay(app, id_)
        daemon.execute("update outboxd.progress set first_asked_at = first_asked_at - interval '1 day'")
        daemon.execute("set lock_timeout = '1s'")
        assert unanswered.end(daemon) == []
        app.commit()
        assert unanswered.end(daemon) == [id_]
        word.apply(daemon)
        assert words(daemon) == []

    def cancel_again_and_stay(self, app: psycopg.Connection, id_: int) -> None:
        cancel = ("select outboxd.cancel(%s)", (uid_of(app, id_),))
        assert app.execute(*cancel).fetchone() == (False,)
        app.autocommit = False
        assert app.execute(*cancel).fetchone() == (False,)

    @pytest.mark.parametrize("said", ["pause", "resume"])
    @pytest.mark.parametrize("asked", ["refused", "probe accepted", "probe not asked"])
    def test_settle_does_not_wait_for_an_open_word_of_an_operator_about_the_same_pause(
        self, connect, said, asked
    ):
        operator, daemon = connect(), connect()
        ids = [insert(daemon), insert(daemon)]
        emails = claim(daemon)
        pause.begin(
            daemon, "account", HOME.account, reason="key", detail="no", lasts=None, probe_every=timedelta(0)
        )
        probe = None if asked == "refused" else pause.take_probe(daemon, HOME.account)
        operator.autocommit = False
        more = ", 'because'" if said == "pause" else ""
        operator.execute(f"select outboxd.{said}('account', %s{more})", (HOME.account,))
        outcome, asked_at = {
            "refused": (Paused(Failure("pause", "wrong key", status=401), reason="key"), steady()),
            "probe accepted": (Sent("re_1"), steady()),
            "probe not asked": (Returned(), None),
        }[asked]
        results = [
            Result(replace(held(emails[0]), probe=probe), outcome, asked_at),
            Result(held(emails[1]), Sent("re_2"), steady()),
        ]
        daemon.execute("set lock_timeout = '10s'")
        daemon.execute("set statement_timeout = '3s'")
        settle_batch(settler_without_thread(), daemon, results)
        went = "sent" if asked == "probe accepted" else "blocked" if asked == "refused" else "ready"
        assert state_of(daemon, ids[1]) == "sent"
        assert (state_of(daemon, ids[0]) == "sent") == (went == "sent")
        operator.rollback()

    def test_a_pause_that_somebody_holds_is_waited_for_once_for_all_that_it_refused(self, connect):
        operator, daemon = connect(), connect()
        for _ in range(20):
            insert(daemon)
        emails = claim(daemon)
        operator.autocommit = False
        operator.execute("select outboxd.pause('account', %s, 'because')", (HOME.account,))
        refusal = Paused(Failure("pause", "wrong key", status=401), reason="key")
        begun = steady()
        settle_batch(
            settler_without_thread(), daemon, [Result(held(email), refusal, begun) for email in emails]
        )
        assert steady() - begun < 3 * pause.PATIENCE.total_seconds()
        assert lease_count(daemon) == 0
        operator.rollback()


class TestRule11TheTriggerSharesNoRow:
    def test_two_open_transactions_insert_side_by_side(self, connect):
        a, b = connect(), connect()
        a.autocommit = b.autocommit = False
        b.execute("set statement_timeout = '2s'")
        insert(a, type="brand_new_type")
        insert(b, type="brand_new_type")
        a.rollback()
        b.rollback()

    def test_bulk_inserts_with_keys_in_opposite_order_do_not_deadlock(self, connect):
        keys = [f"k{number}" for number in range(60)]
        outcomes: list[str] = []

        def bulk(order: list[str]) -> None:
            try:
                connect().execute(
                    "insert into outboxd.email (type, payload, dedupe_key) select 'welcome', %s::jsonb, unnest(%s::text[])",
                    (psycopg.types.json.Jsonb(payload()), order),
                )
                outcomes.append("inserted")
            except psycopg.Error as error:
                outcomes.append(error.sqlstate or "")

        for _ in range(5):
            threads = [threading.Thread(target=bulk, args=(order,)) for order in (keys, keys[::-1])]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert set(outcomes) <= {"inserted", "23505"}
        assert outcomes.count("inserted") == 1


class TestRule14OneOutcomePerEmail:
    def test_delivery_and_email_are_partitioned_by_id_with_equal_bounds(self, conn):
        bounds = """
            select array_agg(pg_get_expr(child.relpartbound, child.oid) order by child.relname)
            from pg_inherits join pg_class as child on child.oid = inhrelid where inhparent = %s::regclass"""
        of = {
            name: conn.execute(bounds, (f"outboxd.{name}",)).fetchone()[0]
            for name in ("email", "delivery", "attempt")
        }
        assert of["email"] == of["delivery"] == of["attempt"]
        assert len(of["email"]) > 5

    def test_a_second_outcome_for_one_email_is_refused_by_the_table(self, conn):
        insert_one = (
            "insert into outboxd.delivery (id, state, queue, attempts, at) values (1, 'sent', 1, 1, %s)"
        )
        conn.execute(insert_one, (datetime(2026, 1, 1, tzinfo=UTC),))
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute(insert_one, (datetime(2027, 1, 1, tzinfo=UTC),))


class TestRule15TwoPhaseCommit:
    def test_a_prepared_transaction_passes_with_the_bell_off_and_not_with_it_on(self, local_server):
        migrate(local_server.url)
        with psycopg.connect(local_server.url, autocommit=True) as sleeper:
            sleeper.execute("select pg_advisory_lock(7101, 1)")
            for bell, passes in (("off", True), ("on", False)):
                with psycopg.connect(local_server.url) as app:
                    app.execute("select set_config('outboxd.doorbell', %s, true)", (bell,))
                    id_ = insert(app)
                    if passes:
                        app.execute("prepare transaction 'two-phase'")
                        app.rollback()
                        sleeper.execute("commit prepared 'two-phase'")
                        assert state_of(sleeper, id_) == "ready"
                    else:
                        with pytest.raises(psycopg.errors.FeatureNotSupported):
                            app.execute("prepare transaction 'two-phase'")

    def test_with_the_bell_on_a_sleeper_is_notified(self, connect):
        sleeper, app = connect(), connect()
        sleeper.execute("listen outboxd")
        sleeper.execute("select pg_advisory_lock(7101, 1)")
        insert(app)
        assert len(list(sleeper.notifies(timeout=5, stop_after=1))) == 1

    def test_while_nobody_sleeps_nothing_is_notified(self, connect):
        awake, app = connect(), connect()
        awake.execute("listen outboxd")
        insert(app)
        assert list(awake.notifies(timeout=0.2)) == []


class TestRule17RolledBackCancel:
    def test_the_plain_read_sees_what_an_open_cancel_holds(self, connect):
        app, daemon = connect(), connect()
        id_ = insert(daemon)
        app.autocommit = False
        app.execute("select outboxd.cancel(%s)", (uid_of(daemon, id_),))
        assert claim(daemon) == []
        (waiting,) = lease.slots(daemon, "default")
        assert waiting.due_in <= 0
        app.rollback()
        assert len(claim(daemon)) == 1


class TestRule19PastDatesAndNewSlots:
    def test_a_past_date_lands_at_now_and_so_beyond_the_watermark(self, conn):
        before = conn.execute("select clock_timestamp()").fetchone()[0]
        id_ = insert(conn, scheduled_at=datetime(2020, 1, 1, tzinfo=UTC))
        (at,) = conn.execute("select scheduled_at from outboxd.ready where id = %s", (id_,)).fetchone()
        assert at >= before

    def test_a_new_queue_or_priority_is_found_by_the_next_scan(self, conn):
        insert(conn)
        insert(conn, priority=77)
        insert(conn, type="newsletter")
        assert [(w.queue, w.lane, w.priority) for w in lease.slots(conn, "default")] == [
            (1, 0, 1),
            (3, 0, 10),
            (1, 0, 77),
        ]


class TestRule23AnotherAccount:
    def test_an_open_answer_is_not_asked_at_another_account(self, connect):
        a = connect()
        insert(a)
        (email,) = claim(a)
        settle(a, (email, OPEN))
        make_due(a)
        elsewhere = replace(HOME, account="second")
        (again,) = claim(a, frozen=elsewhere)
        assert judged(again, elsewhere).failure.kind == "account_changed"
        assert judged(again, HOME) is None

    def test_a_definite_refusal_may_be_asked_anywhere(self, connect):
        a = connect()
        insert(a)
        (email,) = claim(a)
        settle(a, (email, AGAIN))
        make_due(a)
        elsewhere = replace(HOME, account="second")
        (again,) = claim(a, frozen=elsewhere)
        assert again.frozen.account == "second"
        assert judged(again, elsewhere) is None


class TestCrashStreak:
    def test_two_returns_and_the_third_quarantines(self, connect):
        a = connect()
        id_ = insert(a)
        lanes = [slot(lane=0), slot(lane=-1), slot(lane=-2)]
        taken = []
        for _ in range(3):
            assert len(claim(a, wanted=lanes, ttl=timedelta(seconds=-1))) == 1
            taken += [(one.streak, one.taken) for one in lease.reclaim(a, crash_limit=3)]
        assert taken == [(1, "again"), (2, "again"), (3, "unknown")]
        assert state_of(a, id_) == "unknown"
        letter = a.execute("select error_class, certainty, history from outboxd.dead_letter").fetchone()
        assert letter[:2] == ("crash_limit", "maybe_accepted")
        assert [(entry["outcome"], entry["name"]) for entry in letter[2]] == [("lease_expired", None)] * 3
        assert a.execute("select sum(failed)::integer, sum(sent)::integer from outboxd.tally").fetchone() == (
            1,
            0,
        )

    def test_with_the_limit_off_nothing_is_a_suspect(self, connect):
        a = connect()
        insert(a)
        for _ in range(5):
            claim(a, ttl=timedelta(seconds=-1))
            assert [one.taken for one in lease.reclaim(a, crash_limit=0)] == ["again"]

    def test_an_outcome_ends_the_streak(self, connect):
        a = connect()
        insert(a)
        claim(a, ttl=timedelta(seconds=-1))
        lease.reclaim(a, crash_limit=3)
        (suspect,) = claim(a, wanted=[slot(lane=-1)])
        assert suspect.crash_streak == 1
        settle(a, (suspect, OPEN))
        make_due(a)
        (again,) = claim(a)
        assert (again.lane, again.crash_streak) == (0, 0)


class TestReclaimWaitsForNobody:
    def test_a_word_that_somebody_holds_up_keeps_no_lease_from_going_back(self, database, connect):
        silent, look = connect(), connect()
        dead, crashed = insert(look), insert(look)
        emails = {email.id: email for email in claim(look, ttl=timedelta(seconds=-1))}
        settle(look, (emails[dead], Rejected(Failure("message", "no"))))
        look.execute(
            "insert into outboxd.word (id, kind, provider_id) values (%s, 'accepted', 're_late')", (dead,)
        )
        silent.autocommit = False
        silent.execute("select id from outboxd.dead_letter for update")
        session = Session(database, "reclaimer", stop=threading.Event())
        session.connection()
        round_ = threading.Thread(target=Reclaimer(session, 3, Policies()).round)
        round_.start()
        try:
            until(lambda: in_ready(look, crashed) == 1, within=4, what="the lease to go back")
        finally:
            silent.rollback()
            round_.join()
            session.close()
        assert state_of(look, dead) == "sent"


class TestTheKeysLife:
    def test_an_open_ask_of_23_hours_ago_is_never_repeated(self, connect):
        a = connect()
        id_ = insert(a)
        (email,) = claim(a)
        settle(a, (email, OPEN))
        a.execute("update outboxd.progress set first_asked_at = first_asked_at - interval '23 h'")
        make_due(a)
        (again,) = claim(a)
        outcome = held_by(again, now=again.claimed_at)
        settle(a, (again, outcome), asked_ago=None)
        assert state_of(a, id_) == "unknown"

    def test_a_closed_ask_of_23_hours_ago_may_be_repeated(self, connect):
        a = connect()
        insert(a)
        (email,) = claim(a)
        settle(a, (email, AGAIN))
        a.execute("update outboxd.progress set first_asked_at = first_asked_at - interval '25 h'")
        make_due(a)
        (again,) = claim(a)
        assert held_by(again, now=again.claimed_at) is None

    def test_ambiguity_is_sticky(self, connect):
        a = connect()
        id_ = insert(a, max_attempts=2)
        (email,) = claim(a)
        settle(a, (email, OPEN))
        make_due(a)
        (again,) = claim(a)
        settle(a, (again, AGAIN))
        assert state_of(a, id_) == "unknown"
        assert settlement(again, AGAIN).step.name == "unknown"


def test_a_payload_that_nobody_can_read_ends_alone_where_a_recipient_is_suppressed(conn):
    """Planted after the checks: it must not stop the claim of all others."""
    conn.execute("select outboxd.suppress('ada@example.org', 'admin')")
    for text in ("[" * 3000 + "]" * 3000, "null", '{"to": ["a@b@c"]}'):
        id_ = insert(conn)
        conn.execute("update outboxd.email set payload = %s where id = %s", (text, id_))
    ends = [judged(email) for email in claim(conn)]
    assert [type(end) for end in ends] == [Rejected] * 3
