"""`on_duplicate => 'replace'`: the waiting email is taken back and the new one inserted, never both and never neither."""

import json
import threading
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from factories import claim, insert, payload, settle, state_of, uid_of
from waiting import until

from outboxd import Email, enqueue, enqueue_many
from outboxd.core.outcome import Ambiguous, Failed, Failure, Rejected, Returned, Sent
from outboxd.db import lease

KEY = "digest:42"
AGAIN = Failed(Failure("transient", "connection refused"))
OPEN = Ambiguous(Failure("ambiguous", "time-out"))


def replace(conn: psycopg.Connection, subject: str = "Newer", *, key: str | None = KEY, **fields) -> tuple:
    """The row that enqueue answers: (id, uid, duplicate)."""
    return conn.execute(
        "select id, uid, duplicate from outboxd.enqueue(%s::jsonb, 'welcome', dedupe_key => %s,"
        " on_duplicate => 'replace')",
        (json.dumps(payload(subject=subject, **fields)), key),
    ).fetchone()


def count(conn: psycopg.Connection, table: str) -> int:
    return conn.execute(f"select count(*) from outboxd.{table}").fetchone()[0]


def waits_for_lock(conn: psycopg.Connection, waiter: psycopg.Connection) -> bool:
    return conn.execute(
        "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s", (waiter.info.backend_pid,)
    ).fetchone()[0]


class TestRule24ReplaceWhileSending:
    def test_an_email_in_hand_is_not_replaced_and_only_it_goes(self, connect):
        app, daemon = connect(), connect()
        old = insert(app, dedupe_key=KEY)
        (email,) = claim(daemon)
        assert replace(app) == (old, uid_of(app, old), True)
        settle(daemon, (email, Sent("re_1")))
        assert claim(daemon) == []
        assert (count(app, "email"), state_of(app, old)) == (1, "sent")

    @pytest.mark.parametrize("outcome", [AGAIN, OPEN, Returned()])
    def test_an_email_that_could_not_be_replaced_goes_on_as_if_nobody_had_asked(self, connect, outcome):
        app, daemon = connect(), connect()
        old = insert(app, dedupe_key=KEY)
        (email,) = claim(daemon)
        replace(app)
        settle(daemon, (email, outcome), asked_ago=None if outcome == Returned() else 0.05)
        assert count(app, "word") == 0
        assert state_of(app, old) == ("ready" if outcome == Returned() else "retrying")

    def test_a_replace_waits_for_an_open_claim_and_then_leaves_its_email_alone(self, connect):
        app, daemon, look = connect(), connect(), connect()
        old = insert(look, dedupe_key=KEY)
        daemon.autocommit = False
        daemon.execute("delete from outboxd.ready where id = %s", (old,))
        daemon.execute(
            "insert into outboxd.lease values (%s, %s, %s, '{}', now(), now() + interval '1 min')",
            (uuid4(), uuid4(), [old]),
        )
        answers: list[tuple] = []
        thread = threading.Thread(target=lambda: answers.append(replace(app)))
        thread.start()
        until(lambda: waits_for_lock(look, app), what="the replace to wait for the claim")
        daemon.commit()
        thread.join()
        assert [(id_, duplicate) for id_, _, duplicate in answers] == [(old, True)]
        assert count(look, "ready") == 0

    def test_an_email_with_an_open_answer_is_not_replaced(self, connect):
        app, daemon = connect(), connect()
        old = insert(app, dedupe_key=KEY)
        (email,) = claim(daemon)
        settle(daemon, (email, OPEN))
        assert replace(app)[::2] == (old, True)

    def test_an_email_whose_lease_ran_out_is_not_replaced(self, connect):
        app, daemon = connect(), connect()
        old = insert(app, dedupe_key=KEY)
        claim(daemon, ttl=timedelta(seconds=-1))
        lease.reclaim(daemon, crash_limit=3)
        assert replace(app)[::2] == (old, True)

    def test_an_email_whose_acceptance_is_recorded_is_neither_replaced_nor_cancelled(self, connect):
        """It waits and was never asked, says a standby; its acceptance came after the failover."""
        app, daemon = connect(), connect()
        old = insert(app, dedupe_key=KEY)
        daemon.execute(
            "insert into outboxd.word (id, kind, provider_id) values (%s, 'accepted', 're_late')", (old,)
        )
        assert replace(app) == (old, uid_of(app, old), True)
        assert app.execute("select outboxd.cancel(%s)", (uid_of(app, old),)).fetchone() == (False,)
        assert count(app, "ready") == 1


class TestReplaceWhileWaiting:
    def test_the_old_email_is_cancelled_and_only_the_new_one_is_claimed(self, connect):
        app, daemon = connect(), connect()
        old = insert(app, dedupe_key=KEY)
        new, uid, duplicate = replace(app)
        assert (new != old, uid, duplicate) == (True, uid_of(app, new), False)
        assert [email.id for email in claim(daemon)] == [new]
        assert state_of(app, old) == "cancelled"

    def test_an_open_replace_hides_both_emails_from_a_claim(self, connect):
        app, daemon = connect(), connect()
        insert(app, dedupe_key=KEY)
        app.autocommit = False
        new, _, _ = replace(app)
        daemon.execute("set statement_timeout = '2s'")
        assert claim(daemon) == []
        app.commit()
        assert [email.id for email in claim(daemon)] == [new]

    def test_a_rollback_brings_the_old_email_back(self, connect):
        app, daemon = connect(), connect()
        old = insert(app, dedupe_key=KEY)
        app.autocommit = False
        replace(app)
        app.rollback()
        assert [email.id for email in claim(daemon)] == [old]

    def test_a_new_email_that_is_refused_leaves_the_old_one_waiting(self, conn):
        old = insert(conn, dedupe_key=KEY)
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="to"):
            replace(conn, to="nonsense")
        assert state_of(conn, old) == "ready"

    def test_a_definite_failure_that_waits_for_its_retry_is_replaced(self, connect):
        app, daemon = connect(), connect()
        old = insert(app, dedupe_key=KEY)
        (email,) = claim(daemon)
        settle(daemon, (email, AGAIN))
        new, _, duplicate = replace(app)
        assert (duplicate, state_of(app, old), state_of(app, new)) == (False, "cancelled", "ready")
        assert count(app, "progress") == 0

    def test_of_two_replaces_at_once_the_later_one_stands(self, connect):
        first, second, look = connect(), connect(), connect()
        insert(look, dedupe_key=KEY)
        first.autocommit = False
        replace(first, "First")
        answers: list[tuple] = []
        thread = threading.Thread(target=lambda: answers.append(replace(second, "Second")))
        thread.start()
        until(lambda: waits_for_lock(look, second), what="the second replace to wait for the first")
        first.commit()
        thread.join()
        waiting = look.execute(
            "select email.id, email.payload ->> 'subject' from outboxd.email join outboxd.ready using (id)"
        ).fetchall()
        assert waiting == [(answers[0][0], "Second")]

    def test_the_new_email_holds_the_key(self, conn):
        insert(conn, dedupe_key=KEY)
        new, _, _ = replace(conn)
        with pytest.raises(psycopg.errors.UniqueViolation):
            insert(conn, dedupe_key=KEY)
        assert replace(conn)[0] != new


class TestReplaceAfterTheEnd:
    def test_a_sent_email_is_not_replaced(self, connect):
        app, daemon = connect(), connect()
        old = insert(app, dedupe_key=KEY)
        (email,) = claim(daemon)
        settle(daemon, (email, Sent("re_1")))
        assert replace(app)[::2] == (old, True)

    @pytest.mark.parametrize(
        ("outcome", "duplicate"), [(Rejected(Failure("message", "no")), False), (OPEN, True)]
    )
    def test_a_dead_email_is_replaced_only_where_it_was_certainly_not_accepted(
        self, connect, outcome, duplicate
    ):
        app, daemon = connect(), connect()
        insert(app, dedupe_key=KEY, max_attempts=1)
        (email,) = claim(daemon)
        settle(daemon, (email, outcome))
        assert replace(app)[2] is duplicate


def test_replace_without_a_key_or_with_a_free_one_inserts(conn):
    assert replace(conn, key=None)[2] is False
    assert replace(conn)[2] is False
    assert count(conn, "ready") == 2


def test_the_client_replaces(conn):
    email = Email(from_="Shop <hi@shop.example>", to="ada@example.org", subject="Digest", text="1 comment")
    old = enqueue(conn, email, type="digest", dedupe_key=KEY, on_duplicate="replace")
    new = enqueue(conn, email, type="digest", dedupe_key=KEY, on_duplicate="replace")
    items = [{"type": "digest", "email": email, "dedupe_key": KEY, "on_duplicate": "replace"}] * 2
    many = enqueue_many(conn, items)
    assert (old.duplicate, new.duplicate) == (False, False)
    assert [state_of(conn, id_) for id_ in (old.id, new.id, *many)] == ["cancelled"] * 3 + ["ready"]
