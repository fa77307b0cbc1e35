"""From a committed row to exactly one accepted email, through real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from conftest_path import count, dies, drained, only_once, singly
from factories import insert, insert_many, payload, state_of, uid_of
from openapi import faults_of, record
from waiting import until

from outboxd import enqueue, enqueue_many
from outboxd.db.migrate import migrate
from outboxd.sink.options import Fault
from outboxd.sink.provider import BATCH, SINGLE

FIRST_SETTLED = (
    "select min(extract(epoch from at))::float8 - %s from outboxd.delivery where at > to_timestamp(%s)"
)


def by_raw_insert(conn: psycopg.Connection, items: list[dict]) -> None:
    for item in items:
        conn.execute("insert into outboxd.email (type, payload) values ('welcome', %s)", (json.dumps(item),))


def by_copy(conn: psycopg.Connection, items: list[dict]) -> None:
    with conn.cursor() as cursor, cursor.copy("copy outboxd.email (type, payload) from stdin") as copy:
        for item in items:
            copy.write_row(("welcome", json.dumps(item)))


def by_enqueue(conn: psycopg.Connection, items: list[dict]) -> None:
    for item in items:
        enqueue(conn, item, type="welcome")


def by_enqueue_many(conn: psycopg.Connection, items: list[dict]) -> None:
    enqueue_many(conn, [{"type": "welcome", "payload": item} for item in items])


WAYS = (by_raw_insert, by_copy, by_enqueue, by_enqueue_many)


def application(url: str, way, emails: int, *, lot: int = 25) -> threading.Thread:
    """A session that commits two lots and rolls back the third, until `emails` were inserted."""

    def work() -> None:
        with psycopg.connect(url) as conn:
            for n in range(emails // lot):
                kept = n % 3 != 2
                prefix = f"{way.__name__}-{n}" if kept else "never"
                way(conn, [payload(to=f"{prefix}-{i}@example.org") for i in range(lot)])
                if kept:
                    conn.commit()
                else:
                    conn.rollback()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def trade(url: str, emails: int) -> int:
    """Four sessions, one for each way of inserting; how many emails were committed."""
    for thread in [application(url, way, emails // 4) for way in WAYS]:
        thread.join()
    with psycopg.connect(url) as conn:
        return count(conn, "email")


def assert_each_accepted_once(conn: psycopg.Connection, running, committed: int) -> None:
    assert only_once(running)["accepted"] == committed
    uids = {str(row[0]) for row in conn.execute("select uid from outboxd.email").fetchall()}
    assert set(running.provider.accepted_by_uid) == uids
    assert not any(to.startswith("never") for entry in running.provider.entries for to in entry.to)


def migrate_as_people_do(url: str) -> None:
    command = [sys.executable, "-m", "outboxd", "migrate"]
    subprocess.run(command, env=os.environ | {"DATABASE_URL": url}, check=True, timeout=60)


def send_alone(conn: psycopg.Connection) -> int:
    """One email of each way while no other waits, so that it goes without company; how many."""
    for way in WAYS:
        way(conn, [payload(to=f"{way.__name__}-alone@example.org")])
        until(lambda: drained(conn), what="the email to go")
    return len(WAYS)


def test_every_committed_email_is_accepted_once_and_no_other_is(empty_database, sink, daemon):
    migrate_as_people_do(empty_database)
    running = sink()
    exchanges = record(running.provider)
    daemon(running.url, url=empty_database, own=True, OUTBOXD_SENDER__THREADS="32")
    with psycopg.connect(empty_database, autocommit=True) as conn:
        alone = send_alone(conn)
        committed = trade(empty_database, 10_000)
        assert committed == 6700 + alone  # of the hundred lots of each session 67
        until(
            lambda: drained(conn) and count(conn, "delivery") == committed,
            within=60,
            what="the queue to drain",
        )
        assert_each_accepted_once(conn, running, committed)
    assert {one.call for one in exchanges} == {SINGLE, BATCH}
    assert faults_of(exchanges) == []


@pytest.mark.parametrize(
    ("kills", "emails"),
    [pytest.param(6, 4000, marks=pytest.mark.slow), pytest.param(20, 10_000, marks=pytest.mark.long)],
    ids=["6", "20"],
)
def test_kills_lose_nothing_and_double_nothing(database, conn, sink, daemon, kills, emails):
    running = sink(think_time=0.02)
    exchanges = record(running.provider)
    options = {
        "OUTBOXD_SENDER__CRASH_LIMIT": "0",
        "OUTBOXD_RESEND__DEADLINE": "1s",
        "OUTBOXD_SENDER__LEASE": "11s",
    }
    apps = [application(database, way, emails // 4) for way in WAYS]
    for _ in range(kills):
        one = daemon(running.url, **options)
        before = len(running.provider.entries)
        until(
            lambda before=before: len(running.provider.entries) > before or drained(conn),
            what="a request",
            within=30,
        )
        dies(conn, one)
    for app in apps:
        app.join()
    daemon(running.url, OUTBOXD_SENDER__THREADS="64", **options)
    committed = count(conn, "email")
    until(
        lambda: drained(conn) and count(conn, "delivery") == committed, within=90, what="the queue to drain"
    )
    assert_each_accepted_once(conn, running, committed)
    assert count(conn, "attempt", "outcome = 'lease_expired'") > 0
    assert faults_of(exchanges) == []


def test_a_retry_after_a_restart_repeats_key_and_bytes_whatever_changed(conn, sink, daemon):
    running = sink()
    first = daemon(running.url, OUTBOXD_SENDER__THREADS="2")
    id_ = insert(conn, body=payload(to="fault+500.1@example.org"))
    until(lambda: count(conn, "progress") == 1, what="a failed attempt")
    assert first.terminate() == 0
    conn.execute("update outboxd.queue set priority = 9, max_attempts = 9")
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp()")
    daemon(running.url, OUTBOXD_SENDER__THREADS="5", OUTBOXD_RESEND__DEADLINE="1s")
    until(lambda: state_of(conn, id_) == "sent", what="the retry to be accepted")
    asks = [(entry.key, entry.sha256) for entry in running.provider.entries]
    assert len(asks) == 2
    assert len(set(asks)) == 1
    assert asks[0][0] == f"obx1.{uid_of(conn, id_)}.1"


@pytest.mark.parametrize(
    "seconds", [2, pytest.param(8, marks=pytest.mark.slow), pytest.param(60, marks=pytest.mark.long)]
)
def test_an_immediate_stop_of_postgres_loses_nothing_and_claims_resume_at_once(
    local_server, sink, daemon, seconds
):
    migrate(local_server.url)
    running = sink(think_time=0.02)
    with psycopg.connect(local_server.url, autocommit=True) as app:
        singly(app)
    daemon(running.url, url=local_server.url, OUTBOXD_SENDER__CRASH_LIMIT="0")
    with psycopg.connect(local_server.url, autocommit=True) as app:
        insert_many(app, 1000)
    until(lambda: len(running.provider.entries) > 100, what="requests")
    local_server.stop("immediate")
    threading.Event().wait(seconds)  # the length of the outage is what is tested
    before = len(running.provider.entries)
    local_server.start()
    accepts = time.time()
    until(lambda: len(running.provider.entries) > before, within=10, what="the first ask after the outage")
    waited = running.provider.entries[before].at - accepts
    with psycopg.connect(local_server.url, autocommit=True) as app:
        until(lambda: drained(app) and count(app, "delivery") == 1000, within=60, what="the queue to drain")
        settled = app.execute(FIRST_SETTLED, (accepts, accepts)).fetchone()[0]
    assert waited <= 2.5
    print(f"Postgres back after {seconds} s: first ask {waited:.2f} s later, first settle {settled:.2f} s")
    assert settled <= (2.0 if seconds > 2 else 3.0)  # the shortest runs beside other tests
    assert only_once(running)["accepted"] == 1000


def test_a_refused_email_dies_with_its_error_and_others_go_on(conn, sink, daemon):
    running = sink()
    daemon(running.url)
    bad = insert(conn, body=payload(to="fault+422@example.org"))
    good = [insert(conn, body=payload(to=f"u{n}@example.org")) for n in range(20)]
    until(lambda: drained(conn), what="the queue to drain")
    assert state_of(conn, bad) == "dead"
    assert {state_of(conn, id_) for id_ in good} == {"sent"}
    letter = conn.execute(
        "select certainty, error_class, error_name, http_status, attempts from outboxd.dead_letter"
    ).fetchone()
    assert letter == ("not_accepted", "message", "validation_error", 422, 1)


@pytest.mark.slow
def test_nobody_asks_before_retry_after_and_no_attempt_is_burned(conn, sink, daemon):
    running = sink()
    daemon(running.url, OUTBOXD_SENDER__THREADS="4")
    running.provider.control({"faults": (Fault("429", argument=3),)})
    insert_many(conn, 1)
    until(lambda: running.provider.verdicts["fault"] == 1, what="the first 429")
    running.provider.control({"faults": ()})
    insert_many(conn, 30)
    until(lambda: drained(conn) and count(conn, "delivery") == 31, what="the queue to drain")
    times = [entry.at for entry in running.provider.entries]
    assert times[1] - times[0] >= 3.0
    assert conn.execute("select max(attempts) from outboxd.delivery").fetchone() == (1,)


@pytest.mark.slow
def test_exhausted_500s_and_timeouts_end_unknown_and_refused_connections_dead(conn, sink, daemon):
    conn.execute("update outboxd.queue set backoff_base = '50 ms', give_up_after = '0'")
    running = sink()
    one = daemon(running.url, OUTBOXD_RESEND__DEADLINE="1s")
    broken = insert(conn, max_attempts=2, body=payload(to="fault+500@example.org"))
    silent = insert(conn, max_attempts=2, body=payload(to="fault+hang@example.org"))
    until(lambda: drained(conn) and count(conn, "dead_letter") == 2, what="both to end")
    assert (state_of(conn, broken), state_of(conn, silent)) == ("unknown", "unknown")
    one.terminate()
    daemon("http://127.0.0.1:9")
    refused = insert(conn, max_attempts=2)
    until(lambda: state_of(conn, refused) == "dead", what="the refused one to end")


@pytest.mark.slow
def test_an_outage_longer_than_all_attempts_is_retried_until_give_up_after(conn, sink, daemon):
    conn.execute(
        "update outboxd.queue set backoff = 'fixed', backoff_base = '20 ms', max_attempts = 2, give_up_after = '1 h'"
    )
    running = sink()
    daemon(running.url)
    id_ = insert(conn, body=payload(to="fault+503.6@example.org"))
    until(lambda: state_of(conn, id_) == "sent", what="the email to outlive the outage")
    assert len(running.provider.entries) == 7


def test_sigterm_finishes_what_is_on_the_wire_and_returns_the_rest(conn, sink, daemon):
    singly(conn)
    running = sink(think_time=1.0)
    one = daemon(running.url, OUTBOXD_SENDER__THREADS="4")
    insert_many(conn, 40)
    until(lambda: len(running.provider.entries) >= 4, what="four requests on the wire")
    assert one.terminate(within=10) == 0
    assert count(conn, "lease") == 0
    sent = count(conn, "delivery")
    assert sent == running.provider.summary()["accepted"] >= 4
    assert count(conn, "ready") == 40 - sent
    assert count(conn, "progress") == 0


@pytest.mark.slow
def test_a_second_sigterm_hurries(conn, sink, daemon):
    singly(conn)
    running = sink(think_time=30.0)
    one = daemon(
        running.url, OUTBOXD_RESEND__DEADLINE="40s", OUTBOXD_SENDER__LEASE="60s", OUTBOXD_SENDER__THREADS="2"
    )
    insert_many(conn, 2)
    until(lambda: len(running.provider.entries) == 2, what="two requests on the wire")
    one.process.send_signal(signal.SIGTERM)
    threading.Event().wait(0.3)  # two signals at one instant are one
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(5) == 1


def test_cancel_and_expiry_are_checked_before_the_ask(conn, sink, daemon):
    running = sink()
    cancelled, expired = insert(conn), insert(conn, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert conn.execute("select outboxd.cancel(%s)", (uid_of(conn, cancelled),)).fetchone() == (True,)
    daemon(running.url)
    until(lambda: drained(conn), what="the queue to drain")
    assert (state_of(conn, cancelled), state_of(conn, expired)) == ("cancelled", "expired")
    assert len(running.provider.entries) == 0


@pytest.mark.slow
def test_a_cancel_after_the_claim_stops_the_ask(conn, sink, daemon):
    singly(conn)
    running = sink()
    running.provider.control({"faults": (Fault("429", argument=4),)})
    daemon(
        running.url, OUTBOXD_SENDER__THREADS="1", OUTBOXD_RESEND__DEADLINE="2s", OUTBOXD_SENDER__LEASE="60s"
    )
    insert_many(conn, 10)
    until(lambda: running.provider.verdicts["fault"] == 1, what="the brake")
    until(lambda: count(conn, "lease", "cardinality(ids) >= 1") == 1, what="emails in hand")
    running.provider.control({"faults": ()})
    held = conn.execute(
        "select email.id, uid from outboxd.email join outboxd.lease on email.id = any (ids)"
    ).fetchall()
    for _, uid in held:
        conn.execute("select outboxd.cancel(%s)", (uid,))
    until(lambda: drained(conn), what="the queue to drain")
    assert {state_of(conn, id_) for id_, _ in held} == {"cancelled"}
    assert not {str(uid) for _, uid in held} & set(running.provider.accepted_by_uid)


def test_a_scheduled_email_waits_and_goes_when_it_falls_due(conn, sink, daemon):
    running = sink()
    daemon(running.url)
    at = datetime.now(UTC) + timedelta(seconds=2)
    id_ = insert(conn, scheduled_at=at)
    assert state_of(conn, id_) == "scheduled"
    until(lambda: state_of(conn, id_) == "sent", what="it to be sent")
    assert running.provider.entries[0].at >= at.timestamp()


def test_a_mail_that_kills_its_worker_is_quarantined_and_its_neighbours_go_out(conn, sink, daemon):
    singly(conn)
    running = sink(think_time=0.05)
    poison = insert(conn, body=payload(to="fault+accept-hang@example.org"))
    others = [insert(conn, body=payload(to=f"u{n}@example.org")) for n in range(30)]
    options = {
        "OUTBOXD_RESEND__DEADLINE": "1s",
        "OUTBOXD_SENDER__LEASE": "11s",
        "OUTBOXD_SENDER__THREADS": "4",
    }
    key = f"obx1.{uid_of(conn, poison)}.1"
    for asks in range(1, 4):
        one = daemon(running.url, **options)
        until(
            lambda asks=asks: sum(entry.key == key for entry in running.provider.entries) >= asks,
            within=60,
            what="the poison",
        )
        dies(conn, one)
    daemon(running.url, **options)
    until(lambda: drained(conn), within=90, what="the queue to drain")
    assert state_of(conn, poison) == "unknown"
    assert conn.execute("select error_class from outboxd.dead_letter").fetchall() == [("crash_limit",)]
    assert {state_of(conn, id_) for id_ in others} == {"sent"}
