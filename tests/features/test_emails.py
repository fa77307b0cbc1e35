"""`outboxd enqueue`, `emails` and `rebuild` as a shell sees them: exit code, standard output, standard error."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import pytest
from factories import claim, insert, payload, settle, state_of, uid_of

from outboxd.cli.emails import STATES
from outboxd.cli.main import main
from outboxd.core.outcome import Ambiguous, Failed, Failure, Rejected, Sent, Suppressed, Unresolvable
from outboxd.db import email as emails_for_people

AGAIN = Failed(Failure("transient", "connection refused"))
NO = Rejected(Failure("message", "no"))
OPEN = Ambiguous(Failure("ambiguous", "time-out"))
NEVER_KNOWN = Unresolvable(Failure("ambiguous", "the key is gone"))
TOO_LATE = "too late to be certain: it was sent, is being asked for, or an earlier ask is open\n"
STRANGER = UUID(int=42)
HTML = "<p>for Ada's eyes</p>"


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def outboxd(database, monkeypatch, capsys):
    """Runs the program itself: that an error has a message and is no traceback is decided in `main`."""
    monkeypatch.setenv("DATABASE_URL", database)

    def run(*arguments: object, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["outboxd", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as end:
            main()
        return Ran(end.value.code, *capsys.readouterr())

    return run


def uids(ran: Ran) -> list[str]:
    assert (ran.code, ran.err) == (0, "")
    return [row["uid"] for row in json.loads(ran.out)]


def emails_in(conn) -> int:
    return conn.execute("select count(*) from outboxd.email").fetchone()[0]


def end_in(conn, outcome) -> int:
    """One more email, claimed, and settled so."""
    id_ = insert(conn)
    (email,) = claim(conn)
    settle(conn, (email, outcome))
    return id_


class TestEnqueue:
    @pytest.mark.parametrize("source", ["argument", "@FILE", "-", "nothing"])
    def test_stores_the_payload_from_each_source_and_prints_its_uid(self, outboxd, conn, tmp_path, source):
        body = payload(subject="Grüße")
        text, file = json.dumps(body, ensure_ascii=False), tmp_path / "mail.json"
        file.write_text(text, "utf-8")
        given = {"argument": [text], "@FILE": [f"@{file}"], "-": ["-"], "nothing": []}[source]
        ran = outboxd(
            "enqueue", "--type", "welcome", *given, stdin="" if source in {"argument", "@FILE"} else text
        )
        ((uid, type_, stored),) = conn.execute("select uid, type, payload from outboxd.email").fetchall()
        assert ran == (0, f"{uid}\n", "")
        assert (type_, stored) == ("welcome", body)

    def test_hands_every_option_on(self, outboxd, conn):
        at, later = (datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours) for hours in (1, 2))
        options = {
            "queue": "marketing", "dedupe-key": "k", "scheduled-at": at.isoformat(), "expires-at": later.isoformat(),
            "priority": 7, "max-attempts": 9,
        }  # fmt: skip
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        assert outboxd("enqueue", "--type", "welcome", *flags, json.dumps(payload())).code == 0
        assert conn.execute(
            "select queue, dedupe_key, scheduled_at, expires_at, priority, max_attempts from outboxd.email"
        ).fetchall() == [("marketing", "k", at, later, 7, 9)]

    def test_a_duplicate_is_answered_with_the_uid_that_holds_the_key_and_inserts_nothing(self, outboxd, conn):
        command = ("enqueue", "--type", "welcome", "--dedupe-key", "welcome:42", json.dumps(payload()))
        first, second = outboxd(*command), outboxd(*command)
        assert second == (0, f"{first.out.strip()} (duplicate)\n", "")
        assert emails_in(conn) == 1

    @pytest.mark.parametrize(
        ("options", "body", "message"),
        [
            ([], payload(subject=7), "payload.subject: must be a string, not number"),
            ([], payload(to="ada"), "payload.to: is not an address"),
            ([], payload(subject=None), "payload.subject: "),
            ([], [], "payload: must be a JSON object"),
            (["--queue", "marketin"], payload(), "queue: there is no queue of this name"),
            (["--dedupe-key", ""], payload(), "dedupe_key: must be 1 to 500 characters"),
        ],
    )
    def test_what_is_refused_is_a_failure_that_names_the_field(self, outboxd, conn, options, body, message):
        ran = outboxd("enqueue", "--type", "welcome", *options, json.dumps(body))
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith(f"outboxd: {message}")
        assert "ada" not in ran.err
        assert emails_in(conn) == 0

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b'{"to"', "is not JSON: "),
            (b'{"subject": "\xff"}', "is not JSON: 'utf-8' codec"),
            (None, "cannot be read: No such file or directory"),
        ],
    )
    def test_a_file_that_is_no_json_or_missing_is_wrong_usage(self, outboxd, tmp_path, text, message):
        file = tmp_path / "mail.json"
        if text is not None:
            file.write_bytes(text)
        ran = outboxd("enqueue", "--type", "welcome", f"@{file}")
        assert (ran.code, ran.out) == (2, "")
        assert f"Invalid value for PAYLOAD: {message}" in ran.err

    @pytest.mark.parametrize("option", ["--priority", "--max-attempts"])
    @pytest.mark.parametrize("number", [0, 101, 2**15])
    def test_a_number_out_of_range_is_wrong_usage_that_names_the_option(self, outboxd, option, number):
        ran = outboxd("enqueue", "--type", "welcome", option, number, json.dumps(payload()))
        assert (ran.code, ran.out) == (2, "")
        assert f"'{option}': {number} is not in the range 1<=x<=100" in ran.err


class TestList:
    def test_json_has_the_newest_first_at_most_as_many_as_asked_for(self, outboxd, conn):
        _, second, third = (str(uid_of(conn, insert(conn))) for _ in range(3))
        ran = outboxd("emails", "list", "--json", "--limit", 2)
        assert uids(ran) == [third, second]
        assert set(json.loads(ran.out)[0]) == {
            "uid", "id", "type", "queue", "state", "attempts", "created_at", "scheduled_at", "sent_at",
            "provider_id", "last_error",
        }  # fmt: skip

    def test_each_state_finds_its_own(self, outboxd, conn):
        of = {
            "sent": end_in(conn, Sent("re_1")),
            "dead": end_in(conn, NO),
            "unknown": end_in(conn, NEVER_KNOWN),
            "retrying": end_in(conn, AGAIN),
            "sending": insert(conn),
        }
        claim(conn)
        of["scheduled"] = insert(conn, scheduled_at=datetime.now(UTC) + timedelta(hours=1))
        of["blocked"] = insert(conn, queue="marketing")
        conn.execute("select outboxd.pause('queue', 'marketing', 'wrong text')")
        for ended in ("suppressed", "cancelled", "expired"):
            of[ended] = insert(conn)
            conn.execute("delete from outboxd.ready where id = %s", (of[ended],))
            conn.execute(
                "insert into outboxd.delivery (id, state, queue, attempts) values (%s, %s, 1, 0)",
                (of[ended], ended),
            )
        of["ready"] = insert(conn)
        found = {state: uids(outboxd("emails", "list", "--state", state, "--json")) for state in STATES}
        assert found == {state: [str(uid_of(conn, id_))] for state, id_ in of.items()}

    @pytest.mark.parametrize("field", ["to", "cc", "bcc"])
    def test_an_address_is_found_in_every_field_and_spelling(self, outboxd, conn, field):
        insert(conn)
        uid = str(uid_of(conn, insert(conn, body=payload(**{field: ["Eve <eve@bücher.example>"]}))))
        for spelling in ("eve@bücher.example", "EVE@xn--bcher-kva.example"):
            assert uids(outboxd("emails", "list", "--to", spelling, "--json")) == [uid]

    def test_queue_and_type_narrow_it_down_together(self, outboxd, conn):
        uid = str(uid_of(conn, insert(conn, type="welcome", queue="marketing")))
        insert(conn, type="welcome")
        insert(conn, type="digest", queue="marketing")
        assert uids(outboxd("emails", "list", "--queue", "marketing", "--type", "welcome", "--json")) == [uid]

    def test_for_people_it_is_a_table_or_a_line_that_says_that_there_is_nothing(self, outboxd, conn):
        assert outboxd("emails", "list") == (0, "nothing to show\n", "")
        id_ = end_in(conn, AGAIN)
        heading, row = outboxd("emails", "list").out.splitlines()
        assert heading.split()[:5] == ["UID", "STATE", "QUEUE", "TYPE", "ATTEMPTS"]
        assert row.split()[:5] == [str(uid_of(conn, id_)), "retrying", "transactional", "welcome", "1"]
        assert row.endswith("  connection refused")

    @pytest.mark.parametrize(
        ("option", "value"), [("--state", "snet"), ("--to", "Ada <ada@example.org>"), ("--limit", 0)]
    )
    def test_a_filter_that_can_match_nothing_is_wrong_usage(self, outboxd, option, value):
        ran = outboxd("emails", "list", option, value)
        assert (ran.code, ran.out) == (2, "")
        assert option in ran.err
        assert "ada@" not in ran.err


class TestShow:
    @pytest.mark.parametrize("form", [[], ["--json"]])
    def test_it_tells_each_attempt_and_nothing_of_the_payload(self, outboxd, conn, form):
        id_ = insert(conn, body=payload(html=HTML), dedupe_key="welcome:42")
        (email,) = claim(conn)
        settle(conn, (email, AGAIN))
        ran = outboxd("emails", "show", uid_of(conn, id_), *form)
        assert (ran.code, ran.err) == (0, "")
        for told in ("retrying", "welcome:42", "history", "connection refused"):
            assert told in ran.out
        for kept in ("ada@", "Hello", "eyes"):
            assert kept not in ran.out

    @pytest.mark.parametrize(
        ("outcome", "state", "reason"),
        [
            (Suppressed("unsubscribe", "marketing"), "suppressed", "unsubscribe (marketing)"),
            (NO, "dead", NO.failure.kind),
            (NEVER_KNOWN, "unknown", NEVER_KNOWN.failure.kind),
        ],
    )
    def test_it_tells_the_reason_of_an_end_last_of_the_view_s_columns(
        self, outboxd, conn, outcome, state, reason
    ):
        id_ = end_in(conn, outcome)
        shown = outboxd("emails", "show", uid_of(conn, id_)).out.splitlines()
        assert [line.split(maxsplit=1) for line in shown if line.startswith(("state", "reason"))] == [
            ["state", state], ["reason", reason],
        ]  # fmt: skip
        cursor = conn.execute("select * from outboxd.status(%s)", (uid_of(conn, id_),))
        assert (cursor.description[-1].name, cursor.fetchone()[-1]) == ("reason", reason)

    @pytest.mark.parametrize("outcome", [Sent("re_1"), AGAIN])
    def test_where_there_is_no_reason_none_is_printed(self, outboxd, conn, outcome):
        assert "reason" not in outboxd("emails", "show", uid_of(conn, end_in(conn, outcome))).out

    def test_json_has_one_entry_per_attempt(self, outboxd, conn):
        id_ = end_in(conn, AGAIN)
        row = json.loads(outboxd("emails", "show", uid_of(conn, id_), "--json").out)
        assert (row["state"], row["attempts"], row["recipients"]) == ("retrying", 1, 1)
        assert [(one["message"], one["late"]) for one in row["history"]] == [("connection refused", False)]

    @pytest.mark.parametrize(
        ("command", "message"),
        [
            ("show", f"there is no email with uid {STRANGER}"),
            ("cancel", "uid: there is no email with this uid"),
        ],
    )
    def test_an_unknown_uid_is_a_failure_and_what_is_no_uid_wrong_usage(self, outboxd, command, message):
        assert outboxd("emails", command, STRANGER) == (1, "", f"outboxd: {message}\n")
        assert outboxd("emails", command, "7").code == 2


class TestCancel:
    def test_a_waiting_email_is_taken_back_however_often_it_is_said(self, outboxd, conn):
        id_ = insert(conn)
        for _ in range(2):
            ran = outboxd("emails", "cancel", uid_of(conn, id_))
            assert ran == (0, "cancelled: it was not and will not be sent\n", "")
        assert state_of(conn, id_) == "cancelled"
        assert claim(conn) == []

    @pytest.mark.parametrize(
        ("outcome", "state"), [(None, "sending"), (OPEN, "retrying"), (Sent("re_1"), "sent"), (NEVER_KNOWN, "unknown")]
    )  # fmt: skip
    def test_it_is_too_late_once_the_email_may_have_been_accepted(self, outboxd, conn, outcome, state):
        id_ = insert(conn)
        (email,) = claim(conn)
        if outcome is not None:
            settle(conn, (email, outcome))
        assert outboxd("emails", "cancel", uid_of(conn, id_)) == (1, "", TOO_LATE)
        assert state_of(conn, id_) == state
        words = conn.execute("select id, kind from outboxd.word").fetchall()
        assert words == ([(id_, "cancel")] if state in {"sending", "retrying"} else [])


class TestRebuild:
    @pytest.mark.parametrize(("flags", "doubted"), [([], True), (["--never-asked"], False)])
    def test_what_is_missing_goes_back_in_doubt_unless_it_was_never_asked(
        self, outboxd, conn, flags, doubted
    ):
        ended = end_in(conn, Sent("re_1"))
        lost = insert(conn)
        conn.execute("truncate outboxd.ready")
        ran = outboxd("rebuild", *flags)
        assert ran == (0, "put back 1\n", f"looked at {lost} of {lost}, put back 1\n")
        assert [(email.id, email.ambiguous) for email in claim(conn)] == [(lost, doubted)]
        assert state_of(conn, ended) == "sent"
        assert outboxd("rebuild", *flags).out == "put back 0\n"

    def test_it_reaches_every_email_and_tells_its_progress_chunk_by_chunk(self, outboxd, conn, monkeypatch):
        monkeypatch.setattr(emails_for_people, "CHUNK", 2)
        first, *_, last = [insert(conn) for _ in range(5)]
        conn.execute("truncate outboxd.ready")
        assert outboxd("rebuild") == (
            0,
            "put back 5\n",
            "".join(
                f"looked at {done} of {last}, put back {found}\n"
                for done, found in ((first + 1, 2), (first + 3, 4), (last, 5))
            ),
        )

    def test_without_emails_there_is_nothing_to_look_at(self, outboxd):
        assert outboxd("rebuild") == (0, "put back 0\n", "")

    def test_a_database_without_the_schema_is_said_in_one_line(self, outboxd, empty_database, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", empty_database)
        ran = outboxd("rebuild")
        assert (ran.code, ran.err) == (
            1,
            "outboxd: outboxd's schema is not in this database: run `outboxd migrate`\n",
        )


def test_a_payload_that_is_nested_too_deep_to_read_is_said_so(outboxd, conn):
    ran = outboxd("enqueue", "--type", "welcome", "-", stdin="[" * 100_000 + "]" * 100_000)
    assert ran.code == 2
    assert "is nested too deep" in ran.err
    assert emails_in(conn) == 0
