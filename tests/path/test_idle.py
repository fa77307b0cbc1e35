"""A daemon that has nothing to do asks little, and misses nothing."""

import pytest
from factories import insert
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]
LAST = """
select query, extract(epoch from clock_timestamp() - query_start)::float8 from pg_stat_activity
where application_name = 'outboxd claimer' and datname = current_database()
"""


def idles(conn) -> bool:
    last = conn.execute(LAST).fetchone()
    return last is not None and last[0].startswith("-- Whether anything waits at all")


def seconds_since_its_look(conn) -> float:
    return conn.execute(LAST).fetchone()[1]


def test_an_idle_daemon_looks_with_one_statement_and_finds_what_rang_no_bell(
    database, conn, sink, daemon, reach
):
    running = sink()
    daemon(running.url)
    if reach(database) == database:  # a pooler has no bell to wait for, so that the daemon looks more often
        until(lambda: idles(conn), within=15, what="the daemon to be idle")
    conn.execute("set outboxd.doorbell = 'off'")
    insert(conn)
    until(lambda: running.provider.accepted_by_uid, within=10, what="the email to be found")


def test_an_idle_daemon_claims_within_two_seconds_of_a_peer_that_woke_and_stood_still(
    database, conn, connect, sink, daemon, reach
):
    peer = connect()
    peer.execute("select pg_advisory_lock(7101, 1)")  # asleep
    running = sink()
    daemon(running.url)
    if reach(database) == database:
        until(lambda: idles(conn), within=15, what="the daemon to be idle")
        until(lambda: seconds_since_its_look(conn) < 1, within=6, what="it to have looked just now")
    peer.execute("select pg_advisory_unlock(7101, 1)")  # awake, and never again
    insert(conn)
    until(lambda: running.provider.accepted_by_uid, within=2, what="the email to go")
