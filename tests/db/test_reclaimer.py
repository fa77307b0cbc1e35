"""The reclaimer's rounds: what crashes leave behind is said, counted, and told to the claimer."""

import logging
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from factories import batched, claim, insert, slot, state_of, uid_of
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from outboxd import metrics
from outboxd.db.policy import Policies
from outboxd.db.session import Session
from outboxd.delivery import reclaimer

CRASH_LIMIT = 3
RAN_OUT = timedelta(seconds=-1)


@pytest.fixture
def counts(monkeypatch):
    """Tells (leases reclaimed, quarantined) so far: the daemon's own counters, connected to a reader."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    for counter in (metrics.leases_reclaimed, metrics.quarantined):
        monkeypatch.setattr(counter, "_real_instrument", None)  # as it is found, it is left
        counter.on_meter_set(provider.get_meter("outboxd"))

    def read() -> tuple[int, int]:
        data = reader.get_metrics_data()
        found = {
            metric.name: sum(point.value for point in metric.data.data_points)
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
        return found.get("outboxd.leases.reclaimed", 0), found.get("outboxd.quarantined", 0)

    yield read
    provider.shutdown()


@pytest.fixture
def daemon(database):
    """A reclaimer, and the calls of its `wake`."""
    woken: list[bool] = []
    session = Session(database, "reclaimer", stop=threading.Event())
    made = reclaimer.Reclaimer(session, CRASH_LIMIT, Policies(), wake=lambda: woken.append(True))
    yield SimpleNamespace(reclaimer=made, round=made.round, woken=woken)
    session.close()


def crash(conn, *, streak: int = 0) -> None:
    """A daemon claims what waits after `streak` crashes, and is never heard of again."""
    assert claim(conn, wanted=[slot(lane=-streak)], ttl=RAN_OUT)


def said(caplog) -> list[tuple]:
    return [
        (record.levelno, record.uid, record.crash_streak, record.then)
        for record in caplog.records
        if record.name == "outboxd.delivery.reclaimer"
    ]


def test_each_return_of_a_crashed_email_is_a_warning_with_its_uid_and_crash_streak(conn, daemon, caplog):
    id_ = insert(conn)
    uid = str(uid_of(conn, id_))
    expected = []
    for streak, then in ((1, "again"), (2, "again"), (3, "unknown")):
        crash(conn, streak=streak - 1)
        daemon.round()
        expected.append((logging.WARNING, uid, streak, then))
        assert said(caplog) == expected
    assert state_of(conn, id_) == "unknown"
    assert "ada@" not in "".join(str(vars(record)) for record in caplog.records)


def test_each_return_counts_as_reclaimed_and_the_third_as_quarantined_too(conn, daemon, counts):
    insert(conn)
    for streak, expected in ((1, (1, 0)), (2, (2, 0)), (3, (3, 1))):
        crash(conn, streak=streak - 1)
        daemon.round()
        assert counts() == expected


def test_every_email_of_a_batch_is_said_and_counted(conn, connect, daemon, counts, caplog):
    members = batched(conn, connect(), 3, ttl=RAN_OUT).emails
    daemon.round()
    assert sorted(said(caplog)) == sorted((logging.WARNING, str(email.uid), 1, "kept") for email in members)
    assert counts() == (3, 0)


def test_a_lease_that_still_runs_is_left_alone_beside_one_that_ran_out(conn, daemon, counts, caplog):
    crashed = insert(conn)
    crash(conn)
    asked = insert(conn)
    claim(conn)
    daemon.round()
    assert [uid for _, uid, *_ in said(caplog)] == [str(uid_of(conn, crashed))]
    assert counts() == (1, 0)
    assert state_of(conn, asked) == "sending"


def test_a_crash_whose_acceptance_was_heard_counts_as_reclaimed_and_not_as_quarantined(
    conn, daemon, counts, caplog
):
    daemon.reclaimer.crash_limit = 1
    id_ = insert(conn)
    crash(conn)
    conn.execute("insert into outboxd.word (id, kind, provider_id) values (%s, 'accepted', 're_1')", (id_,))
    daemon.round()
    assert said(caplog) == [(logging.WARNING, str(uid_of(conn, id_)), 1, "sent")]
    assert counts() == (1, 0)
    assert state_of(conn, id_) == "sent"


@pytest.mark.parametrize(("crash_limit", "woken"), [(2, [True]), (1, [])])
def test_the_claimer_is_woken_only_where_something_went_back(conn, daemon, crash_limit, woken):
    daemon.reclaimer.crash_limit = crash_limit
    insert(conn)
    crash(conn)
    daemon.round()
    assert daemon.woken == woken


def test_after_a_lost_connection_leases_wait_until_it_has_been_calm(conn, daemon, counts, monkeypatch):
    monkeypatch.setattr(reclaimer, "CALM", 3600.0)  # longer than a busy machine takes
    daemon.round()
    insert(conn)
    crash(conn)
    conn.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where application_name = 'outboxd reclaimer' and datname = current_database()"
    )
    daemon.round()  # loses it
    daemon.round()
    assert counts() == (0, 0)
    daemon.reclaimer.not_before = 0.0
    daemon.round()
    assert counts() == (1, 0)
