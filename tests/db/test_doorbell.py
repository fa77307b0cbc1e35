"""The doorbell: no wake-up is lost, whoever holds the key, and arming never waits for nothing."""

import threading
import time
from collections.abc import Iterator

import pytest
from factories import insert
from waiting import until

from outboxd.db.wake import Doorbell


@pytest.fixture
def bell(database) -> Iterator[Doorbell]:
    stop = threading.Event()
    made = Doorbell(database, stop=stop)
    thread = threading.Thread(target=made.listen)
    thread.start()
    yield made
    stop.set()
    made.close()
    thread.join(10)
    assert not thread.is_alive()


def armed(bell: Doorbell) -> bool:
    return until(lambda: bell.arm(within=0.5), what="the bell to be armed")


def test_a_commit_rings_the_armed_bell_at_once(bell, conn):
    armed(bell)
    started = time.monotonic()
    insert(conn)
    assert bell.wait(5)
    assert time.monotonic() - started < 1


def test_a_disarmed_bell_lets_inserts_pass_without_ringing(bell, connect):
    armed(bell)
    bell.disarm()
    listener = connect()
    listener.execute("listen outboxd")
    until(
        lambda: (
            listener.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone() == (0,)
        ),
        what="the key to be free",
    )
    insert(connect())
    assert list(listener.notifies(timeout=0.2)) == []


def test_the_end_of_a_transaction_that_held_the_key_rings(bell, connect):
    app = connect()
    app.autocommit = False
    insert(app)
    armed(bell)
    assert not bell.wait(0.3)
    app.commit()
    assert bell.wait(5)


def test_behind_an_open_transaction_other_inserts_ring(bell, connect):
    long = connect()
    long.autocommit = False
    insert(long)
    armed(bell)
    look = connect()
    until(
        lambda: (
            look.execute(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            ).fetchone()
            == (1,)
        ),
        what="somebody to wait for the key",
    )
    insert(connect())
    assert bell.wait(5)


@pytest.mark.slow
def test_who_waits_for_the_key_of_an_open_transaction_has_no_long_one_itself(bell, connect):
    """Its snapshot would keep vacuum from what went since."""
    long, look = connect(), connect()
    long.autocommit = False
    insert(long)
    waiters = "select backend_start, clock_timestamp() - xact_start from pg_stat_activity where application_name = 'outboxd waiter' and xact_start is not null"
    began, ages = time.monotonic(), {}
    armed(bell)
    while time.monotonic() < began + 7:
        if bell.wait(0.1):
            armed(bell)
        ages |= dict(look.execute(waiters).fetchall())
    assert len(ages) >= 2, "one after the other"
    assert max(age.total_seconds() for age in ages.values()) < 5.5


def test_a_daemon_beside_a_sleeping_peer_is_rung_too(bell, connect):
    peer = connect()
    peer.execute("select pg_advisory_lock(7101, 1)")
    armed(bell)
    insert(connect())
    assert bell.wait(5)


def test_beside_a_peer_that_freed_the_key_and_stood_still_it_rings_within_two_seconds(bell, connect):
    """That peer was awake, and hears of nothing more: what is inserted now rings nobody."""
    peer = connect()
    peer.execute("select pg_advisory_lock(7101, 1)")
    armed(bell)
    peer.execute("select pg_advisory_unlock(7101, 1)")
    insert(connect())
    assert bell.wait(2)
    armed(bell)
    insert(connect())
    assert bell.wait(0.5), "the key is its own now"


def test_beside_a_peer_that_sleeps_on_it_stays_silent(bell, connect):
    peer = connect()
    peer.execute("select pg_advisory_lock(7101, 1)")
    armed(bell)
    assert not bell.wait(3)


def test_arming_again_and_again_never_waits_for_nothing(bell):
    armed(bell)
    for _ in range(200):
        bell.disarm()
        started = time.monotonic()
        assert bell.arm(within=1.0)
        assert time.monotonic() - started < 0.2


def test_a_killed_listener_comes_back(bell, connect):
    armed(bell)
    connect().execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'outboxd listener' and datname = current_database()"
    )
    assert bell.wait(5)
    bell.disarm()
    armed(bell)
    insert(connect())
    assert bell.wait(5)
