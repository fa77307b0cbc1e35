"""SIGTERM at any moment: out within the request's deadline and two seconds, nothing in a lease, nothing burned."""

import random
import threading
import time

import pytest
from conftest_path import count, dies, drained, only_once
from factories import insert_many
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]

DEADLINE = 2.0  # seconds, as the daemons of these tests have it
BEFORE = 1.5  # seconds of a daemon's life in which the signal may come


@pytest.mark.parametrize("moments", [6, pytest.param(200, marks=pytest.mark.long)])
def test_at_any_moment_it_leaves_no_lease_and_burns_no_attempt(conn, sink, daemon, moments):
    chance = random.Random(moments)
    running = sink(think_time=0.3, keep=100_000)
    conn.execute("update outboxd.queue set batch = (id % 2 = 0)")
    slowest, stopped_with_work = 0.0, 0
    for moment in range(moments):
        insert_many(conn, 100, type=chance.choice(["welcome", "newsletter"]))
        one = daemon(running.url, OUTBOXD_SENDER__THREADS="8")
        threading.Event().wait(chance.random() * BEFORE)  # the moment is what is tested
        begun = time.monotonic()
        assert one.terminate(within=30) == 0, f"moment {moment}: {one.log.read_text()[-2000:]}"
        slowest = max(slowest, time.monotonic() - begun)
        stopped_with_work += not drained(conn)
        assert count(conn, "lease") == 0, f"moment {moment}: a lease is left"
        assert count(conn, "attempt") == 0, f"moment {moment}: an attempt failed"
        burned = count(conn, "progress", "attempts > 0 or ambiguous or crash_streak > 0")
        assert burned + count(conn, "batch", "attempts > 0 or ambiguous or crash_streak > 0") == 0, (
            f"moment {moment}"
        )
        assert count(conn, "dead_letter") == 0
    print(f"slowest exit of {moments}: {slowest:.2f} s; {stopped_with_work} with work left")
    assert stopped_with_work > moments / 4, "most signals came when there was nothing to do"
    assert slowest <= DEADLINE + 2.0
    running.provider.control({"think_time": 0.0})
    daemon(running.url, OUTBOXD_SENDER__THREADS="32")
    until(lambda: drained(conn), within=120, what="the rest to go")
    assert only_once(running)["accepted"] == count(conn, "email") == count(conn, "delivery", "state = 'sent'")


def test_mail_of_a_killed_worker_is_asked_again_within_its_lease_and_two_seconds(conn, sink, daemon):
    running = sink(think_time=1.0)
    options = {"OUTBOXD_RESEND__DEADLINE": "1s", "OUTBOXD_SENDER__LEASE": "11s"}
    first = daemon(running.url, **options)
    insert_many(conn, 1)
    until(lambda: len(running.provider.entries) == 1, what="the ask")
    left = "select extract(epoch from max(lease_until) - clock_timestamp())::float8 from outboxd.lease"
    assert 8 < conn.execute(left).fetchone()[0] <= 11, "the lease is not as long as it was set"
    dies(conn, first, within="3 s")
    running.provider.control({"think_time": 0.0})
    (ends,) = conn.execute(
        "select extract(epoch from max(lease_until))::float8 from outboxd.lease"
    ).fetchone()
    daemon(running.url, **options)
    until(lambda: len(running.provider.entries) == 2, within=30, what="the second ask")
    waited = running.provider.entries[1].at - ends
    print(f"asked again {waited:.2f} s after the lease's end")
    assert waited <= 2.0
    until(lambda: drained(conn), what="its end")
    only_once(running)
