"""A listener whose connection is gone, told or untold, hears the bell again within ten seconds."""

import time

import psycopg
import pytest
from factories import insert
from stalling import StallingProxy
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]

HEALED_WITHIN = 10.0  # seconds
ASKED_WITHIN = 0.5  # seconds from the commit to the request
ARMED = """
select coalesce(array_agg(pid), '{}')
from pg_stat_activity
where application_name = 'outboxd listener' and state = 'idle'
  and (query like '%pg_try_advisory_lock%' or query like '%ExclusiveLock%' or query = 'select 1')
"""


def listening(conn: psycopg.Connection) -> set[int]:
    """Backends of listeners that sleep on the armed bell, as the server sees them."""
    return set(conn.execute(ARMED).fetchone()[0])


def asked_for(running, n: int) -> None:
    until(lambda: len(running.provider.entries) >= n, what="the email to be asked for")


def lose(conn: psycopg.Connection, proxy: StallingProxy, how: str) -> None:
    """End the listener's session, or let nothing of it pass any more."""
    if how == "told":
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'outboxd listener'"
        )
    else:
        assert proxy.stall() >= 1


@pytest.mark.parametrize("how", ["told", "untold"])
def test_a_lost_listener_hears_the_bell_again_within_ten_seconds(database, conn, sink, daemon, how):
    proxy = StallingProxy(conn.info.host, conn.info.port)
    try:
        running = sink()
        daemon(running.url, OUTBOXD_DATABASE__LISTEN_URL=proxy.url(database))
        insert(conn)
        asked_for(running, 1)
        old = until(lambda: listening(conn), what="the bell to be armed")
        lose(conn, proxy, how)
        until(
            lambda: listening(conn) - old, within=HEALED_WITHIN, what="another listener to sleep on the bell"
        )
        for n in range(2, 6):
            began = time.monotonic()
            insert(conn)
            asked_for(running, n)
            assert time.monotonic() - began < ASKED_WITHIN
    finally:
        proxy.close()
