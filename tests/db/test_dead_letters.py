"""Dead letters: what they tell of the error, and how many asks it took to get there."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from click.testing import CliRunner, Result
from factories import batched, claim, claim_batches, insert, settle, settle_parcel, state_of, uid_of

from outboxd import metrics
from outboxd.cli.dead import dead
from outboxd.core.batch import Parcel
from outboxd.core.outcome import Ambiguous, Failed, Failure, Outcome
from outboxd.core.retry import MOST_ATTEMPTS
from outboxd.core.wire import Unsendable
from outboxd.db import lease
from outboxd.delivery.sender import unsendable
from outboxd.resend.answer import Answer, TransportFailure
from outboxd.resend.classify import classify

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
REFUSED = TransportFailure("not_sent", "ConnectError: [Errno 111] Connection refused")
TEAPOT = Answer(
    418, {"content-type": "application/json"}, b'{"name":"teapot","message":"no to ada@example.org"}'
)
PAGE = Answer(404, {"content-type": "text/html"}, b"<html>Not Found</html>")
OPEN = Ambiguous(Failure("ambiguous", "time-out"))
ENDED, ASKING_AGAIN = "email ended as dead", "refused in words that we do not know; asking again"


def read(answer: Answer | TransportFailure) -> Outcome:
    return classify(answer, now=NOW)


@pytest.fixture
def run(database, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(dead, arguments)

    return invoke


def make_due(conn) -> None:
    conn.execute("update outboxd.batch set due_at = clock_timestamp() where due_at is not null")
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp() - interval '1 s'")


def ask(conn, *outcomes: Outcome) -> None:
    """One email, asked once per outcome."""
    for outcome in outcomes:
        make_due(conn)
        (email,) = claim(conn)
        settle_parcel(conn, Parcel((email,)), outcome)


class TestCode:
    @pytest.mark.parametrize(
        ("outcome", "code"),
        [
            (read(REFUSED), "ECONNREFUSED"),
            (unsendable(Unsendable("to", "is empty")), "Unsendable"),
            (unsendable(KeyError("subject")), "KeyError"),
            (read(Answer(422, {}, b'{"name":"invalid_attachment"}')), None),
        ],
    )
    def test_a_dead_letter_has_the_code_of_its_error(self, conn, outcome, code):
        insert(conn, max_attempts=1)
        ask(conn, outcome)
        assert conn.execute("select error_code from outboxd.dead_letters").fetchall() == [(code,)]

    def test_only_a_bug_keeps_its_stack(self, conn):
        for error in (Unsendable("to", "is empty"), KeyError("subject")):
            insert(conn, max_attempts=1)
            ask(conn, unsendable(error))
        kept = dict(conn.execute("select error_code, stack from outboxd.dead_letter").fetchall())
        assert kept["Unsendable"] is None
        assert "KeyError: 'subject'" in kept["KeyError"]

    def test_the_command_shows_it_and_finds_by_it(self, conn, run):
        id_ = insert(conn, max_attempts=1)
        ask(conn, read(REFUSED))
        uid = str(uid_of(conn, id_))
        found = run("list", "--error", "ECONNREFUSED")
        assert "ERROR CODE" in found.output
        assert " ECONNREFUSED " in found.output
        assert [row["error_code"] for row in json.loads(run("list", "--json").output)] == ["ECONNREFUSED"]
        assert run("list", "--error", "ECONNRESET").output == "nothing to show\n"
        assert ["error_code", "ECONNREFUSED"] in [
            line.split() for line in run("show", uid).output.splitlines()
        ]


class TestTold:
    def test_an_end_is_told_after_its_commit_only(self, conn, caplog, monkeypatch):
        told = []
        monkeypatch.setattr(metrics.settled, "add", lambda _, attributes: told.append(attributes["step"]))
        insert(conn, max_attempts=1)
        (email,) = claim(conn)
        conn.execute("create function no() returns trigger language plpgsql as $$ begin raise 'full'; end $$")
        conn.execute(
            "create constraint trigger no after insert on outboxd.dead_letter"
            " deferrable initially deferred for each row execute function no()"
        )
        with pytest.raises(psycopg.errors.RaiseException, match="full"):
            settle_parcel(conn, Parcel((email,)), unsendable(KeyError("subject")))
        assert told == []
        assert caplog.messages == []
        conn.execute("drop trigger no on outboxd.dead_letter")
        settle_parcel(conn, Parcel((email,)), unsendable(KeyError("subject")))
        assert told == ["dead"]
        assert caplog.messages == ["email ended as dead"]


class TestRefusalInUnknownWords:
    def test_an_email_dies_of_the_second(self, conn, monkeypatch):
        monkeypatch.setattr(
            "outboxd.delivery.settler.random.random", lambda: 0.5
        )  # its wait is drawn down to nothing
        id_ = insert(conn)
        ask(conn, read(TEAPOT))
        assert state_of(conn, id_) == "retrying"
        ask(conn, read(TEAPOT))
        assert conn.execute("select attempts, error_class, error_name, http_status from outboxd.dead_letters").fetchall() == [
            (2, "unexpected", "teapot", 418)
        ]  # fmt: skip

    def test_one_with_an_open_answer_is_unknown(self, conn):
        id_ = insert(conn)
        ask(conn, OPEN, read(TEAPOT), read(TEAPOT))
        assert state_of(conn, id_) == "unknown"

    def test_a_page_that_is_no_error_of_resend_is_asked_for_as_often_as_the_policy_says(
        self, conn, monkeypatch
    ):
        monkeypatch.setattr(
            "outboxd.delivery.settler.random.random", lambda: 0.5
        )  # its wait is drawn down to nothing
        id_ = insert(conn)
        ask(conn, read(PAGE), read(PAGE))
        assert state_of(conn, id_) == "retrying"

    def test_the_first_is_logged_with_status_and_name_and_nothing_of_the_email(self, conn, caplog):
        insert(conn)
        ask(conn, Failed(Failure("transient", "refused")), read(TEAPOT))
        (record,) = caplog.records
        assert (record.getMessage(), record.levelno) == (ASKING_AGAIN, logging.ERROR)
        assert (record.status, record.error, record.attempts) == (418, "teapot", 2)
        assert "ada@" not in str(vars(record))

    @pytest.mark.parametrize(("answer", "last"), [(TEAPOT, [ENDED]), (PAGE, [])])
    def test_it_is_logged_once(self, conn, caplog, answer, last):
        insert(conn)
        ask(conn, read(answer), read(answer))
        assert [record.getMessage() for record in caplog.records] == [ASKING_AGAIN, *last]

    def test_that_of_a_batch_is_logged_once(self, conn, connect, caplog):
        settle_parcel(conn, batched(conn, connect(), 3), read(TEAPOT))
        make_due(conn)
        (parcel,) = claim_batches(conn)
        assert not parcel.batch.transient
        assert [record.getMessage() for record in caplog.records] == [ASKING_AGAIN]

    def test_one_that_ends_its_email_is_logged_as_its_end_only(self, conn, caplog):
        insert(conn, max_attempts=1)
        ask(conn, read(TEAPOT))
        assert [record.getMessage() for record in caplog.records] == [ENDED]


class TestCount:
    """Attempts are a smallint; what cannot be stored would be settled, and fail, for ever."""

    def asked_often(self, conn) -> int:
        id_ = insert(conn)
        settle(conn, (claim(conn)[0], OPEN))
        conn.execute("update outboxd.progress set attempts = %s", (MOST_ATTEMPTS,))
        make_due(conn)
        return id_

    def test_it_stays_at_the_most_that_is_counted(self, conn):
        self.asked_often(conn)
        (email,) = claim(conn)
        patient = replace(email, max_attempts=2**15)
        assert list(settle(conn, (patient, OPEN)).values()) == ["again"]
        assert conn.execute("select attempts from outboxd.progress").fetchall() == [(MOST_ATTEMPTS,)]

    def test_the_end_can_be_stored_too(self, conn):
        id_ = self.asked_often(conn)
        settle(conn, (claim(conn)[0], OPEN))
        assert state_of(conn, id_) == "unknown"

    def test_so_can_an_acceptance_that_is_found_after_a_crash(self, conn):
        id_ = self.asked_often(conn)
        claim(conn, ttl=timedelta(seconds=-1))
        conn.execute(
            "insert into outboxd.word (id, kind, provider_id) values (%s, 'accepted', 're_1')", (id_,)
        )
        lease.reclaim(conn, crash_limit=0)
        assert state_of(conn, id_) == "sent"
