"""A pause can be seen with its reason, since when and until when: in the log, `/readyz`, the status line, the view."""

import json
import logging
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from factories import batched, claim, held, insert, payload, settle_parcel, settler_without_thread, state_of

from outboxd.config import load
from outboxd.core.batch import Parcel
from outboxd.core.outcome import Failure, Outcome, Paused, Sent, Throttled
from outboxd.daemon import Daemon, build
from outboxd.db import pause
from outboxd.db.pause import Probe
from outboxd.delivery.claimer import _scan_from_head
from outboxd.delivery.sender import Result
from outboxd.delivery.settler import settle
from outboxd.delivery.steady import steady
from outboxd.reload import Live

DOMAIN = Failure("pause", "The shop.example domain is not verified", "validation_error", 403)
QUOTA = Failure("pause", "You have reached your daily quota", "daily_quota_exceeded", 429)
SINCE, UNTIL = datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2100, 1, 31, 12, tzinfo=UTC)


def answered(conn: psycopg.Connection, outcome: Outcome, probe: Probe | None = None) -> None:
    """One email was asked for and got this answer."""
    (email,) = claim(conn, probe=probe)
    holder = held(email)
    holder.probe = probe
    settle(settler_without_thread(), conn, [Result(holder, outcome, steady())])


def stop(
    conn: psycopg.Connection, kind: str, key: str, *, reason: str = "why", until: datetime | None = None
) -> None:
    conn.execute("select outboxd.pause(%s, %s, %s, %s)", (kind, key, reason, until))
    conn.execute("update outboxd.pause set since = %s where (kind, key) = (%s, %s)", (SINCE, kind, key))


def open_breaker(conn: psycopg.Connection, account: str = "default") -> None:
    conn.execute(
        "insert into outboxd.breaker (account, state, opened_at, probe_at, cause) values (%s, 'open', %s, %s, 'x')",
        (account, SINCE, UNTIL),
    )


@pytest.mark.parametrize("by_hand", [True, False], ids=["by outboxd.pause", "written before"])
def test_a_pause_until_infinity_lasts_until_it_is_resumed_and_can_be_read(conn, by_hand):
    """PostgreSQL before 17 subtracts nothing from infinity: it would stop every claim."""
    conn.execute("select outboxd.pause('type', 'welcome', 'why', 'infinity')")
    if not by_hand:
        conn.execute("update outboxd.pause set until = 'infinity'")
    assert pause.active(conn).read() == {("type", "welcome")}
    if by_hand:
        assert conn.execute("select until from outboxd.pause").fetchone() == (None,)


class TestLog:
    def said(self, caplog: pytest.LogCaptureFixture, event: str) -> dict[str, object]:
        (record,) = [one for one in caplog.records if event in one.getMessage()]
        return vars(record)

    def test_a_pause_names_the_domain_and_has_no_end_where_none_is_known(self, conn, caplog):
        insert(conn)
        answered(conn, Paused(DOMAIN, scope="domain", reason="domain"))
        said = self.said(caplog, "paused: the provider refuses this domain")
        assert (said["kind"], said["key"], said["reason"]) == ("domain", "shop.example", "domain")
        assert "until" not in said

    def test_a_pause_that_ends_by_itself_says_when(self, conn, caplog):
        insert(conn)
        answered(conn, Paused(QUOTA, reason="daily_quota"))
        said = self.said(caplog, "paused: the provider refuses this account")
        assert (said["kind"], said["key"]) == ("account", "default")
        (until,) = conn.execute("select until from outboxd.pause").fetchone()
        assert abs(datetime.fromisoformat(said["until"]) - until) < timedelta(seconds=5)

    def test_a_pause_that_is_lifted_names_the_domain(self, conn, caplog):
        insert(conn)
        pause.begin(
            conn, "domain", "shop.example", reason="domain", detail="x", lasts=None, probe_every=timedelta(1)
        )
        with caplog.at_level(logging.INFO):
            answered(conn, Sent("re_1"), Probe("domain", "shop.example", "domain"))
        said = self.said(caplog, "resumed")
        assert (said["kind"], said["key"], said["reason"]) == ("domain", "shop.example", "domain")


def waiting_batch(conn: psycopg.Connection, daemon: psycopg.Connection, *, due: str) -> Parcel:
    """Two emails that were asked for together and are due again then."""
    parcel = batched(conn, daemon, 2)
    settle_parcel(conn, parcel, Throttled(Failure("throttle", "429"), timedelta()))
    conn.execute(f"update outboxd.batch set due_at = {due}")
    return parcel


@pytest.fixture
def built() -> Daemon:
    """A daemon of the account `default` whose parts are made, and not started; it counts as connected."""
    config = load(None, {"DATABASE_URL": "postgresql:///nowhere"})
    made = build(Live(config, lambda: config))
    made.claimer.session.connected.set()
    return made


def look(built: Daemon, conn: psycopg.Connection) -> None:
    _scan_from_head(built.claimer, conn)


def test_a_new_key_is_tried_as_soon_as_nobody_holds_the_pause(built, conn, connect):
    pause.begin(
        conn, "account", "default", reason="key", detail="x", lasts=None, probe_every=timedelta(hours=1)
    )
    insert(conn)
    operator = connect()
    operator.autocommit = False
    operator.execute("select outboxd.resume('account', 'default')")
    conn.execute("set statement_timeout = '500 ms'")
    built.claimer.probe_soon.set()
    look(built, conn)
    assert built.claimer.probe is None
    operator.rollback()
    look(built, conn)
    assert built.claimer.probe == Probe("account", "default", "key", "x")


class TestReadyz:
    def test_each_pause_says_why_since_when_and_until_when(self, built, conn):
        stop(conn, "queue", "marketing", reason="wrong template", until=UNTIL)
        stop(conn, "domain", "shop.example", reason="domain")
        open_breaker(conn)
        look(built, conn)
        report = built.vitals.ready()
        assert report.ok
        assert report.detail["breaker"] == "open"
        since = "2026-01-31T12:00:00Z"
        assert json.loads(json.dumps(report.detail["pauses"])) == [
            {"kind": "breaker", "key": "default", "reason": "provider_ill", "since": since, "until": None},
            {"kind": "domain", "key": "shop.example", "reason": "domain", "since": since, "until": None},
            {
                "kind": "queue", "key": "marketing", "reason": "wrong template", "since": since,
                "until": "2100-01-31T12:00:00Z",
            },
        ]  # fmt: skip

    def test_another_account_s_breaker_is_listed_and_is_not_ours(self, built, conn):
        open_breaker(conn, "other")
        look(built, conn)
        detail = built.vitals.ready().detail
        assert detail["breaker"] == "closed"
        assert [(one["kind"], one["key"]) for one in detail["pauses"]] == [("breaker", "other")]

    def test_a_person_s_reason_shows_no_address(self, built, conn):
        stop(conn, "queue", "marketing", reason="ask ada@example.org")
        look(built, conn)
        assert [one["reason"] for one in built.vitals.ready().detail["pauses"]] == ["ask ***"]

    def test_a_year_that_python_does_not_know_stops_no_look(self, built, conn):
        conn.execute("select outboxd.pause('queue', 'marketing', 'for ever', '20000-01-01 utc')")
        look(built, conn)
        assert [one["until"] for one in built.vitals.ready().detail["pauses"]] == ["20000-01-01T00:00:00Z"]


class TestStatusLine:
    def test_it_says_that_it_sends_where_only_something_else_is_paused(self, built, conn):
        stop(conn, "queue", "marketing")
        stop(conn, "account", "other")
        open_breaker(conn, "other")
        look(built, conn)
        assert built.vitals.status().startswith("sends: 0 being asked")

    def test_a_copy_says_that_it_observes(self, built):
        built.claimer.fence.problem = "observing: another environment; run `outboxd adopt`"
        assert built.vitals.status() == "observing: another environment; run `outboxd adopt`"

    def test_an_account_that_is_paused_is_named_with_its_reason(self, built, conn):
        stop(conn, "account", "default", reason="key")
        look(built, conn)
        assert built.vitals.status() == "paused: account default (key)"

    def test_an_end_that_is_known_and_an_open_breaker_are_named_too(self, built, conn):
        stop(conn, "account", "default", reason="daily_quota", until=UNTIL)
        open_breaker(conn)
        look(built, conn)
        assert built.vitals.status() == (
            "paused: account default (daily_quota) until 2100-01-31T12:00:00Z, breaker default (provider_ill)"
        )

    def test_a_person_s_reason_cannot_add_a_line_or_an_address(self, built, conn):
        stop(conn, "account", "default", reason="see ada@example.org\nMAINPID=1")
        look(built, conn)
        assert built.vitals.status() == "paused: account default (see *** MAINPID=1)"

    def test_without_a_connection_it_waits_whatever_was_paused(self, built, conn):
        stop(conn, "account", "default")
        look(built, conn)
        built.claimer.session.connected.clear()
        assert built.vitals.status() == "waits for Postgres"


class TestQueueStatus:
    def row(self, conn: psycopg.Connection, queue: str = "transactional") -> tuple:
        return conn.execute(
            "select paused, blocked, ready, pause_reason, paused_since, paused_until from outboxd.queue_status"
            " where queue = %s",
            (queue,),
        ).fetchone()

    def parked(self, conn: psycopg.Connection, kind: str, key: str, **columns) -> int:
        """An email that waits in the lane of this."""
        id_ = insert(conn, **columns)
        conn.execute("update outboxd.ready set lane = %s where id = %s", (pause.lane(conn, kind, key), id_))
        return id_

    def test_a_paused_domain_that_holds_mail_of_it_is_named(self, conn):
        self.parked(conn, "domain", "shop.example")
        insert(conn, body=payload(**{"from": "Other <hi@other.example>"}))
        stop(conn, "domain", "shop.example", reason="domain")
        assert self.row(conn) == (False, 1, 1, "domain shop.example: domain", SINCE, None)

    def test_a_pause_that_holds_no_mail_of_it_is_not(self, conn):
        self.parked(conn, "domain", "shop.example")
        stop(conn, "domain", "shop.example")
        stop(conn, "domain", "other.example")
        pause.lane(conn, "domain", "other.example")
        assert self.row(conn, "marketing") == (False, 0, 0, None, None, None)
        assert self.row(conn)[3] == "domain shop.example: why"

    def test_what_is_not_due_yet_is_held_by_nothing(self, conn):
        self.parked(conn, "domain", "shop.example", scheduled_at=datetime.now(UTC) + timedelta(hours=1))
        stop(conn, "domain", "shop.example")
        assert self.row(conn) == (False, 0, 0, None, None, None)

    def test_a_domain_that_may_send_again_is_not_named(self, conn):
        self.parked(conn, "domain", "shop.example")
        stop(conn, "domain", "shop.example", until=UNTIL)
        conn.execute("update outboxd.pause set until = clock_timestamp()")
        assert self.row(conn) == (False, 0, 1, None, None, None)

    def test_a_batch_that_a_paused_domain_holds_counts_too(self, conn, connect):
        settle_parcel(conn, batched(conn, connect(), 2), Throttled(Failure("throttle", "429"), timedelta()))
        conn.execute(
            "update outboxd.batch set due_at = clock_timestamp(), lane = %s",
            (pause.lane(conn, "domain", "shop.example"),),
        )
        stop(conn, "domain", "shop.example", reason="domain")
        stop(conn, "domain", "other.example")
        pause.lane(conn, "domain", "other.example")
        assert self.row(conn)[3:] == ("domain shop.example: domain", SINCE, None)

    @pytest.mark.parametrize(
        ("kind", "key", "due"),
        [
            ("domain", "shop.example", "clock_timestamp()"),
            ("queue", "transactional", "clock_timestamp()"),
            ("account", "default", "clock_timestamp()"),
            (None, None, "'9999-01-01 utc'"),
        ],
    )
    def test_the_emails_of_a_batch_that_is_held_are_blocked(self, conn, connect, kind, key, due):
        parcel = waiting_batch(conn, connect(), due=due)
        if kind is not None:
            conn.execute("update outboxd.batch set lane = %s", (pause.lane(conn, kind, key),))
            stop(conn, kind, key)
        assert self.row(conn)[1:3] == (2, 0)
        assert {state_of(conn, email.id) for email in parcel.emails} == {"blocked"}
        assert conn.execute("select distinct retrying, delayed from outboxd.queue_status").fetchall() == [
            (0, 0)
        ]

    @pytest.mark.parametrize("stopped", [True, False])
    def test_the_age_of_a_batch_that_is_overdue_counts_also_while_it_is_paused(self, conn, connect, stopped):
        parcel = waiting_batch(conn, connect(), due="clock_timestamp() - interval '1 h'")
        if stopped:
            stop(conn, "queue", "transactional")
        assert self.row(conn)[1:3] == ((2, 0) if stopped else (0, 2))
        assert {state_of(conn, email.id) for email in parcel.emails} == {"blocked" if stopped else "ready"}
        ages = dict(conn.execute("select queue, oldest_due_seconds from outboxd.queue_status").fetchall())
        assert 3600 <= ages.pop("transactional") < 4000
        assert set(ages.values()) == {0}

    def test_a_batch_that_is_due_later_is_retried_and_has_no_age(self, conn, connect):
        parcel = waiting_batch(conn, connect(), due="clock_timestamp() + interval '1 h'")
        assert conn.execute(
            "select retrying, delayed, ready, blocked, oldest_due_seconds from outboxd.queue_status"
            " where queue = 'transactional'"
        ).fetchone() == (2, 2, 0, 0, 0)
        assert {state_of(conn, email.id) for email in parcel.emails} == {"retrying"}

    def test_several_pauses_last_from_the_first_to_the_last(self, conn):
        self.parked(conn, "domain", "shop.example")
        stop(conn, "domain", "shop.example", until=UNTIL)
        stop(conn, "queue", "transactional", until=UNTIL + timedelta(days=1))
        conn.execute("update outboxd.pause set since = since - interval '1 d' where kind = 'domain'")
        assert self.row(conn, "marketing") == (False, 0, 0, None, None, None)
        assert self.row(conn) == (
            True, 1, 0, "domain shop.example: why; queue transactional: why", SINCE - timedelta(days=1),
            UNTIL + timedelta(days=1),
        )  # fmt: skip

    def test_the_account_and_its_breaker_stop_every_queue(self, conn):
        insert(conn)
        stop(conn, "account", "default", reason="key", until=UNTIL)
        assert self.row(conn) == (True, 1, 0, "account default: key", SINCE, UNTIL)
        open_breaker(conn)
        whole = "account default: key; breaker default: provider_ill"
        assert self.row(conn) == (True, 1, 0, whole, SINCE, None)
        assert self.row(conn, "marketing") == (True, 0, 0, whole, SINCE, None)
