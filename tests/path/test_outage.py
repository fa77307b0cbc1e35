"""An outage costs one request per pause of the breaker, no attempt and no email; what heals drains within seconds."""

import bisect
import time
from collections import Counter
from itertools import pairwise

import pytest
from conftest_path import count, drained, only_once
from factories import insert, insert_many, payload
from waiting import until

pytestmark = pytest.mark.path

QUICK = "insert into outboxd.breaker (account, open_for) values ('default', '1 s')"


def state(conn) -> str | None:
    row = conn.execute("select state from outboxd.breaker").fetchone()
    return row and row[0]


def attempts(conn) -> list:
    return conn.execute(
        "select id, attempts from outboxd.progress union all"
        " select member.id, batch.attempts from outboxd.batch"
        " join outboxd.batch_member as member on member.batch_uid = batch.batch_uid order by 1"
    ).fetchall()


def failing(kind: str = "500") -> dict:
    from outboxd.sink.options import Fault

    return {"faults": (Fault(kind),)}


def gone_ill(conn, running, *, most: int) -> tuple[list, int]:
    """Once the breaker has opened, after `most` asks at most: the attempts, and how many were asked for."""
    until(lambda: state(conn) in {"open", "half_open"}, what="the breaker to open")
    until(lambda: count(conn, "lease") == 0, what="what was in hand to be back")
    asked = len(running.provider.entries)
    assert asked <= most
    return attempts(conn), asked


def slowly(running, *, daemons: int, think: float) -> list[tuple[int, int]]:
    """(under way, answered) as each request that was accepted came in: two at a time, and one more with each answer.

    What came in less than `think` seconds before cannot be answered yet; what came in earlier is taken for answered.
    """
    came = sorted(entry.at for entry in list(running.provider.entries) if entry.verdict == "new")
    answered = [bisect.bisect_right(came, at - think) for at in came]
    found = [(place + 1 - before, before) for place, before in enumerate(answered)]
    assert [one for one in found if one[0] > 2 * daemons + one[1]] == []
    return found


@pytest.mark.parametrize(
    "batches", [pytest.param(False, marks=pytest.mark.slow), True], ids=["singly", "in batches"]
)
def test_an_outage_costs_one_probe_per_pause_over_two_daemons_and_no_attempt(conn, sink, daemon, batches):
    conn.execute(QUICK)
    conn.execute("update outboxd.queue set batch = %s, max_attempts = 2, give_up_after = '0'", (batches,))
    running = sink()
    emails = 2000 if batches else 500  # more requests than it takes to open the breaker
    insert_many(conn, emails, type="newsletter")
    running.provider.control(failing())
    for _ in range(2):
        daemon(running.url, OUTBOXD_SENDER__THREADS="8")
    before, asked = gone_ill(conn, running, most=10 + 2 * 8)
    until(lambda: len(running.provider.entries) >= asked + 6, what="five probes")
    probes = [entry.at for entry in list(running.provider.entries)[asked:]]
    gaps = [later - earlier for earlier, later in pairwise(probes)]
    assert min(gaps) >= 0.99, gaps
    assert sum(n for _, n in attempts(conn)) == sum(n for _, n in before)
    assert count(conn, "dead_letter") == 0
    assert conn.execute("select pause_reason from outboxd.queue_status limit 1").fetchone() == (
        "breaker default: provider_ill",
    )
    running.provider.control({"faults": ()})
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp()")
    conn.execute("update outboxd.batch set due_at = clock_timestamp() where due_at is not null")
    until(lambda: drained(conn) and count(conn, "batch") == 0, what="all to go out")
    assert only_once(running)["accepted"] == emails
    assert state(conn) == "closed"
    assert conn.execute("select jsonb_array_length(history) from outboxd.breaker_status").fetchone() == (1,)


@pytest.mark.slow
def test_a_provider_that_has_healed_is_asked_by_few_and_by_one_more_with_each_answer(conn, sink, daemon):
    conn.execute(QUICK)
    conn.execute("update outboxd.queue set batch = false")
    running = sink(think_time=0.1)
    running.provider.control(failing())
    insert_many(conn, 300)
    for _ in range(2):
        daemon(running.url, OUTBOXD_SENDER__THREADS="8")
    gone_ill(conn, running, most=10 + 2 * 8)
    running.provider.control({"faults": ()})
    until(lambda: len(running.provider.accepted_by_uid) >= 100, what="sending at full width")
    found = slowly(running, daemons=2, think=0.1)
    assert max(under_way for under_way, _ in found) > 2 * 2, "it never got beyond the first width"


@pytest.mark.long
def test_an_outage_as_it_ships_costs_one_probe_per_half_minute_over_four_daemons(conn, sink, daemon):
    conn.execute("update outboxd.queue set batch = false")
    running = sink(think_time=0.05)
    emails = 3000
    insert_many(conn, emails)
    running.provider.control(failing())
    for _ in range(4):
        daemon(running.url, OUTBOXD_SENDER__THREADS="8")
    before, asked = gone_ill(conn, running, most=10 + 4 * 8)
    until(lambda: len(running.provider.entries) >= asked + 3, within=100, what="three probes")
    gaps = [later.at - earlier.at for earlier, later in pairwise(list(running.provider.entries)[asked:])]
    assert min(gaps) >= 29.5, gaps
    assert sum(n for _, n in attempts(conn)) == sum(n for _, n in before)
    running.provider.control({"faults": ()})
    until(lambda: running.provider.accepted_by_uid, within=40, what="the probe that finds it well")
    healed = time.time()
    until(lambda: drained(conn), within=30, what="all to go out")
    took = time.time() - healed
    began = min(entry.at for entry in running.provider.entries if entry.verdict == "new")
    per_tenth = Counter(
        int((entry.at - began) * 10) for entry in running.provider.entries if entry.verdict == "new"
    )
    print(
        f"probes {[round(gap, 1) for gap in gaps]} s apart; drained in {took:.1f} s; {[per_tenth[n] for n in range(12)]}"
    )
    assert took <= 15
    slowly(running, daemons=4, think=0.05)
    assert only_once(running)["accepted"] == emails


@pytest.mark.slow
def test_message_errors_never_open_it(conn, sink, daemon):
    conn.execute("update outboxd.queue set batch = false")
    running = sink()
    with conn.transaction():
        for n in range(60):
            to = f"fault+422@bad-{n}.example" if n % 2 else f"good-{n}@example.org"
            insert(conn, type="newsletter", body=payload(to=to))
    daemon(running.url, OUTBOXD_SENDER__THREADS="1")
    until(lambda: drained(conn) and count(conn, "delivery") == 30, what="the good ones to go")
    assert count(conn, "dead_letter") == 30
    assert count(conn, "breaker") == 0


@pytest.mark.slow
def test_an_email_that_waits_out_an_outage_longer_than_its_patience_goes_when_it_is_over(conn, sink, daemon):
    conn.execute(QUICK)
    conn.execute(
        "update outboxd.queue set batch = false, max_attempts = 1, backoff = 'fixed', backoff_base = '10 ms',"
        " give_up_after = '2 s'"
    )
    running = sink()
    running.provider.control(failing())
    insert_many(conn, 3)
    daemon(running.url, OUTBOXD_SENDER__THREADS="2")
    until(lambda: state(conn) in {"open", "half_open"}, what="the breaker to open")
    until(lambda: count(conn, "lease") == 0, what="what was in hand to be back")
    before = attempts(conn)
    until(lambda: conn.execute("select probes from outboxd.breaker").fetchone()[0] >= 6, what="six probes")
    assert attempts(conn) == before
    assert count(conn, "dead_letter") == 0
    running.provider.control({"faults": ()})
    until(lambda: drained(conn), what="all to go out")
    assert only_once(running)["accepted"] == 3
    assert count(conn, "dead_letter") == 0


def open_breaker(conn, *, open_for: str = "30 s") -> None:
    """Its probe is due."""
    conn.execute(
        "insert into outboxd.breaker (account, state, opened_at, probe_at, open_for, cause)"
        " values ('default', 'open', clock_timestamp(), clock_timestamp(), %s::interval, 'HTTP 500: oops')",
        (open_for,),
    )


def expired(conn) -> None:
    conn.execute("update outboxd.email set expires_at = clock_timestamp() - interval '1 s'")


def of_a_paused_campaign(conn) -> None:
    conn.execute("update outboxd.email set campaign = 'spring'")
    conn.execute("select outboxd.pause('campaign', 'spring', 'a person said so')")


@pytest.mark.parametrize("daemons", [1, 2])
@pytest.mark.parametrize("stop", [expired, of_a_paused_campaign])
def test_mail_that_may_not_go_does_not_keep_the_breaker_open(conn, sink, daemon, stop, daemons):
    running = sink()
    insert_many(conn, 200)
    stop(conn)
    good = insert(conn)
    open_breaker(conn)
    for _ in range(daemons):
        daemon(running.url)
    until(lambda: count(conn, "delivery", f"id = {good}") == 1, within=5, what="the one that may go")
    until(lambda: state(conn) == "closed", within=5, what="the breaker to hear of it")
    assert len(running.provider.entries) == 1


def test_a_probe_that_looks_past_what_may_not_go_is_one_request_and_burns_nothing(conn, sink, daemon):
    running = sink()
    running.provider.control(failing())
    insert_many(conn, 30)
    expired(conn)
    insert_many(conn, 90)
    open_breaker(conn, open_for="1 s")
    daemon(running.url)
    until(lambda: len(running.provider.entries) >= 4, what="four probes")
    probes = [entry.at for entry in list(running.provider.entries)]
    assert min(later - earlier for earlier, later in pairwise(probes)) >= 0.99
    assert sum(n for _, n in attempts(conn)) == 0
    assert count(conn, "dead_letter") == 0
    running.provider.control({"faults": ()})
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp()")
    until(lambda: drained(conn), what="all to go out")
    assert only_once(running)["accepted"] == 90
