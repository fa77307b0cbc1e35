"""What the probes and the watchdog make of a daemon that hangs, and of one that only waits."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.client import HTTPConnection

import pytest
from waiting import until

from outboxd.config import load
from outboxd.daemon import Daemon, build
from outboxd.db.session import Session, patient
from outboxd.reload import Live
from outboxd.resend.client import Client
from outboxd.vitals import STUCK
from outboxd.web.health import Report, start_health


@pytest.fixture
def built() -> Daemon:
    """A daemon whose parts are made, and not started."""
    environ = {"DATABASE_URL": "postgresql:///nowhere", "OUTBOXD_RESEND__DEADLINE": "1s"}
    config = load(None, environ)
    return build(Live(config, lambda: config))


def test_a_claimer_without_a_round_is_a_hang_while_postgres_is_there(built):
    built.claimer.session.connected.set()
    assert built.vitals.live().ok
    built.claimer.progress_at = time.monotonic() - STUCK - 1
    assert not built.vitals.live().ok
    assert built.vitals.stuck_for() > STUCK


def test_a_missing_database_is_no_hang(built):
    built.claimer.progress_at = time.monotonic() - STUCK - 1
    assert built.vitals.live().ok
    assert built.vitals.stuck_for() == 0
    assert built.vitals.ready().problems == ["no connection to Postgres"]


def test_work_that_postgres_may_take_its_time_for_is_no_hang(built, database):
    built.claimer.session = Session(database, "claimer", stop=threading.Event())
    conn = built.claimer.session.connection()
    built.claimer.progress_at = time.monotonic() - STUCK - 1
    with patient(conn, 60):
        assert built.vitals.live().ok
    assert not built.vitals.live().ok
    built.claimer.session.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A provider that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_request_beyond_its_deadline_shows_in_livez_and_keeps_the_watchdog_unfed(built, silent):
    stalled = Client(
        silent, lambda: "re_x", deadline=timedelta(seconds=8), ssl_context=ssl.create_default_context()
    )
    built.clients.append(stalled)
    thread = threading.Thread(target=lambda: stalled.send(b"{}", "k"))
    thread.start()
    assert built.vitals.live().ok
    problems = until(lambda: built.vitals.live().problems, what="the request to be reported")
    assert "beyond its deadline" in problems[0]
    assert not built.vitals.alive()
    thread.join()
    assert built.vitals.live().ok
    assert built.vitals.alive()


def test_a_probes_body_does_not_wait_for_the_acknowledgement_of_its_head():
    """On a connection that is kept; its first answers are acknowledged at once."""
    health = start_health("127.0.0.1:0", lambda: Report(ok=True), lambda: Report(ok=True))
    assert health.address
    probes, took = HTTPConnection(*health.address, timeout=5), []
    for _ in range(40):
        started = time.monotonic()
        probes.request("GET", "/livez")
        assert b'"ok"' in probes.getresponse().read()
        took.append(time.monotonic() - started)
    probes.close()
    health.stop()
    assert sorted(took)[len(took) // 2] < 0.03
