"""An application's insert makes rows of its own only: two of them never wait for each other."""

import psycopg
import pytest
from factories import insert, payload

SHARED = (
    "lane",
    "window_count",
    "recipient_count",
    "domain_mx",
    "account",
    "pause",
    "tally",
    "latency_bucket",
)


def rows(conn) -> dict[str, int]:
    return {table: conn.execute(f"select count(*) from outboxd.{table}").fetchone()[0] for table in SHARED}


@pytest.mark.parametrize("lane", [False, True])
def test_an_insert_creates_no_shared_row(conn, lane):
    if lane:
        conn.execute("insert into outboxd.lane (kind, key) values ('provider', 'gmail')")
    before = rows(conn)
    for n, domain in enumerate(("gmail.com", "shop.example", "new.example")):
        insert(conn, type="newsletter", tenant="acme", body=payload(to=f"u{n}@{domain}"))
    assert rows(conn) == before


@pytest.mark.parametrize("lane", [False, True])
def test_two_applications_that_write_to_one_new_domain_do_not_wait_for_each_other(conn, connect, lane):
    if lane:
        conn.execute("insert into outboxd.lane (kind, key) values ('provider', 'shop.example')")
    first, second = connect(), connect()
    second.execute("set lock_timeout = '2 s'")
    with first.transaction():
        insert(first, tenant="acme", body=payload(to="a@shop.example"))
        insert(second, tenant="acme", body=payload(to="b@shop.example"))
        locked = conn.execute(
            "select relation::regclass::text from pg_locks where locktype = 'tuple' or not granted"
        ).fetchall()
    assert locked == []


def test_a_lane_that_a_daemon_holds_locked_keeps_no_application_waiting(conn, connect):
    conn.execute("insert into outboxd.lane (kind, key) values ('provider', 'shop.example')")
    daemon, application = connect(), connect()
    application.execute("set lock_timeout = '2 s'")
    with daemon.transaction():
        daemon.execute("update outboxd.lane set closed_until = clock_timestamp() + interval '1 h'")
        try:
            insert(application, body=payload(to="a@shop.example"))
        except psycopg.errors.LockNotAvailable:
            pytest.fail("the insert waited for the daemon")
