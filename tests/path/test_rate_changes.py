"""The provider lowers its rate and raises it again: hardly a request is refused, and the sending follows."""

import time

import pytest
from conftest_path import only_once
from factories import insert_many
from ledger import asked
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]


def passed(seconds: float) -> None:
    """How long the provider keeps its rate is what the test is about."""
    started = time.monotonic()
    until(lambda: time.monotonic() - started >= seconds, within=seconds + 5, what="the time")


def requests(running, first: float, last: float) -> float:
    """Accepted requests per second between two instants."""
    return sum(first <= entry.at < last and entry.verdict == "new" for entry in asked(running)) / (
        last - first
    )


def rate_of(conn) -> tuple[float | None, float | None]:
    """What the provider names, and what its refusals taught; of an account that no daemon has made known, neither."""
    return conn.execute("select rate, adapted from outboxd.account").fetchone() or (None, None)


def calm_for(conn) -> float:
    """Seconds since the last refusal."""
    (calm,) = conn.execute(
        "select extract(epoch from clock_timestamp() - overran_at)::float8 from outboxd.account"
    ).fetchone()
    return calm


def follows(conn, sink, daemon, *, slow: float, fast: float) -> float:
    """The provider allows 10 requests a second, 2, and 10 again; the share of its 429s."""
    conn.execute("update outboxd.queue set batch = false")
    insert_many(conn, int(10 * (fast + 10) * 2 + 500), type="newsletter")
    running = sink(rate_limit=10)
    daemon(running.url)
    until(lambda: len(asked(running)) > 30, what="the sending")
    lowered = time.time()
    running.provider.control({"rate_limit": 2})
    passed(slow)
    raised = time.time()
    running.provider.control({"rate_limit": 10})
    passed(fast)
    ended = time.time()
    low, high = requests(running, raised - slow / 2, raised), requests(running, ended - fast / 3, ended)
    limited = running.provider.verdicts["limited"]
    after = [entry for entry in asked(running) if entry.at >= lowered]
    print(f"\n{limited} of {len(after)} requests refused; {low:.2f}/s at 2, {high:.2f}/s at 10")
    assert 1.4 <= low <= 2.0
    assert high >= 8.0
    only_once(running)
    return limited / len(after)


def test_a_lowered_rate_is_obeyed_at_once_and_a_raised_one_used_within_ten_seconds(conn, sink, daemon):
    share = follows(conn, sink, daemon, slow=8, fast=12)
    assert share <= 0.06  # those that were on their way when it was lowered: a handful


@pytest.mark.long
def test_less_than_one_in_a_hundred_requests_is_refused_when_the_rate_changes(conn, sink, daemon):
    assert follows(conn, sink, daemon, slow=60, fast=60) < 0.01


def test_a_provider_that_names_no_rate_is_found_out_by_its_refusals_and_not_asked_too_much(
    conn, sink, daemon
):
    """It allows 10 requests a second, and then 2, and says neither."""
    conn.execute("update outboxd.queue set batch = false")
    insert_many(conn, 3000, type="newsletter")
    running = sink(rate_limit=10, rate_headers=False)
    for _ in range(2):
        daemon(running.url, OUTBOXD_SENDER__THREADS="8")
    until(lambda: rate_of(conn)[1] is not None, what="the first refusal")
    until(lambda: rate_of(conn)[1] <= 14, within=120, what="the rate to be found")
    until(
        lambda: requests(running, time.time() - 3, time.time()) > 0.85 * min(10, rate_of(conn)[1]),
        within=30,
        what="the pace of what was found",
    )
    named, adapted = rate_of(conn)
    assert named is None
    assert 5 <= adapted <= 14  # a busy machine gets less through, and takes that for the provider's rate
    first, lowered = running.provider.verdicts["limited"], time.time()
    running.provider.control({"rate_limit": 2})
    # By four tenths at each refusal, ten seconds apart, where a daemon counted more than its part of what was let through.
    until(lambda: rate_of(conn)[1] < 3, within=120, what="the rate to be found")
    until(
        lambda: 1 <= requests(running, time.time() - 5, time.time()) <= 2.2, within=40, what="the pace of 2"
    )
    after = [entry for entry in asked(running) if entry.at >= lowered]
    refused = running.provider.verdicts["limited"] - first
    print(
        f"\n{first} refused at first, {refused} of {len(after)} after it was lowered; {rate_of(conn)[1]:.2f}/s"
    )
    assert first <= 2 * 8 + 4
    assert refused <= 2 * 8 + 4
    only_once(running)


def test_a_rate_far_below_what_is_tried_is_found_though_its_refusals_come_close_together(conn, sink, daemon):
    """It allows 1 request a second from the start and never says so: a second after a refusal, the next one follows.

    Of 1 a second never more than 2 pass within one, so that the second overrun teaches the rate, wherever a second begins.
    """
    conn.execute("update outboxd.queue set batch = false")
    insert_many(conn, 500, type="newsletter")
    running = sink(rate_limit=1, rate_headers=False)
    daemon(running.url)
    until(lambda: rate_of(conn)[1] is not None, what="the first refusal")
    until(lambda: rate_of(conn)[1] <= 2, what="the rate to be found")


@pytest.mark.long
def test_less_than_one_in_a_hundred_requests_is_refused_by_a_provider_that_names_no_rate(conn, sink, daemon):
    """It allows 10 requests a second, 2, and 10 again, and says neither; the rate rises slowly."""
    conn.execute("update outboxd.queue set batch = false")
    insert_many(conn, 6000, type="newsletter")
    running = sink(rate_limit=10, rate_headers=False)
    daemon(running.url)
    until(lambda: requests(running, time.time() - 3, time.time()) > 8.5, within=60, what="the pace of 10")
    until(lambda: calm_for(conn) > 20, within=60, what="its pace to be found")
    running.provider.verdicts["limited"], begun = 0, time.time()
    passed(20)
    running.provider.control({"rate_limit": 2})
    passed(90)
    low = requests(running, time.time() - 40, time.time())
    running.provider.control({"rate_limit": 10})
    until(
        lambda: requests(running, time.time() - 5, time.time()) > 8.0, within=200, what="the pace of 10 again"
    )
    passed(60)
    after = [entry for entry in asked(running) if entry.at >= begun]
    refused = running.provider.verdicts["limited"]
    print(
        f"\n{refused} of {len(after)} requests refused; {low:.2f}/s at 2; {after[-1].at - begun:.0f} s in all"
    )
    assert 1.4 <= low <= 2.0
    assert refused / len(after) < 0.01
    only_once(running)
