"""The provider lowers its rate and raises it again: hardly a request is refused, and the sending follows."""

import time

import pytest
from conftest_path import only_once
from factories import insert_many
from ledger import asked
from waiting import until

pytestmark = pytest.mark.path


def passed(seconds: float) -> None:
    """How long the provider keeps its rate is what the test is about."""
    started = time.monotonic()
    until(lambda: time.monotonic() - started >= seconds, within=seconds + 5, what="the time")


def requests(running, first: float, last: float) -> float:
    """Accepted requests per second between two instants."""
    return sum(first <= entry.at < last and entry.verdict == "new" for entry in asked(running)) / (
        last - first
    )


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
