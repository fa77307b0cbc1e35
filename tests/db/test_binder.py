"""A binder that loses its connection: what it was to bind is handed back at once, also where the claimer sleeps."""

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from factories import claim, insert_many
from waiting import until

from outboxd.config import load
from outboxd.daemon import Daemon, build
from outboxd.delivery.binder import Load, bind_all
from outboxd.delivery.claimer import _sleep
from outboxd.reload import Live


@pytest.fixture
def daemon(database) -> Iterator[Daemon]:
    """A daemon whose parts are made, and not started."""
    config = load(None, {"DATABASE_URL": database, "RESEND_API_KEY": "re_test_0123456789"})
    made = build(Live(config, lambda: config))
    yield made
    made.claimer.session.close()
    made.binder.session.close()


@pytest.fixture
def listener(daemon) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=daemon.bell.listen)
    thread.start()
    yield thread
    daemon.stop.set()
    daemon.bell.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_binder_that_loses_its_connection_wakes_the_claimer(daemon, conn):
    insert_many(conn, 3)
    emails = claim(conn)
    backend = daemon.binder.session.connection().info.backend_pid
    conn.execute("select pg_terminate_backend(%s, 5000)", (backend,))
    daemon.binder.take(Load(emails[0].lease_id, [emails], 0.0))
    daemon.binder.finish()
    bind_all(daemon.binder)
    assert daemon.claimer.leasing.doubtful == [emails[0].lease_id]
    assert daemon.bell.wait(0)


@pytest.mark.usefixtures("listener")
def test_a_claimer_does_not_sleep_while_something_is_to_be_handed_back(daemon):
    """The binder's ring may come before it listens."""
    until(lambda: daemon.bell.arm(within=0.5), what="the bell to be armed")
    daemon.claimer.leasing.doubtful.append(uuid4())
    work = daemon.claimer.session.connection()
    sleeper = threading.Thread(target=_sleep, args=(daemon.claimer, work))
    sleeper.start()
    try:
        until(lambda: not sleeper.is_alive(), within=12, what="the claimer to hand it back")
    finally:
        daemon.stop.set()
        daemon.bell.ring()
        sleeper.join(10)
