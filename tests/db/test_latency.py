"""Views `throughput` and `latency`: right within the error they state, and as cheap as what is asked of them."""

import json
import random
from collections.abc import Iterator

import psycopg
import pytest
from factories import claim, insert, insert_many, settle, slot
from servers import fresh_database

from outboxd.core.outcome import Failed, Failure, Rejected, Sent
from outboxd.db import latency

pytestmark = pytest.mark.xdist_group("latency")  # what is filled for all of them is filled once

ERROR = 0.0910  # (1.2 - 1) / (1.2 + 1), rounded up
EXACT = """
select percentile_disc(array[0.5, 0.95, 0.99]) within group (
  order by extract(epoch from delivery.at - greatest(email.scheduled_at, email.created_at)))::float8[]
from outboxd.delivery join outboxd.email using (id)
"""
DISTRIBUTIONS = {
    "tight": lambda draw: draw.lognormvariate(-3.5, 0.2),
    "wide": lambda draw: draw.lognormvariate(0, 3),
    "two humps": lambda draw: draw.choice([0.02, 90.0]) * draw.uniform(0.9, 1.1),
    "days": lambda draw: draw.uniform(86_400, 30 * 86_400),
}


def sent_after(conn: psycopg.Connection, waits: list[float]) -> None:
    """Emails that fell due so many seconds ago, sent by one settle."""
    insert_many(conn, len(waits))
    conn.execute(
        "update outboxd.email set created_at = clock_timestamp() - interval '1 y',"
        " scheduled_at = clock_timestamp() - given.wait * interval '1 s'"
        " from unnest(%s::float8[]) with ordinality as given (wait, id) where email.id = given.id",
        (waits,),
    )
    emails = claim(conn, limit=len(waits))
    settle(conn, *((email, Sent("re")) for email in emails))


def percentiles(conn: psycopg.Connection) -> list[tuple[float, float, float]]:
    return conn.execute("select p50, p95, p99 from outboxd.latency order by queue, minute").fetchall()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_percentiles_are_within_the_stated_error_of_the_exact_ones(conn, name):
    draw = random.Random(name)
    sent_after(conn, [DISTRIBUTIONS[name](draw) for _ in range(400)])
    (exact,) = conn.execute(EXACT).fetchone()
    (shown,) = percentiles(conn)
    assert [abs(found - right) / right <= ERROR for found, right in zip(shown, exact, strict=True)] == [
        True
    ] * 3


def test_a_single_email_is_its_own_percentiles(conn):
    sent_after(conn, [7.0])
    ((p50, p95, p99),) = percentiles(conn)
    assert p50 == p95 == p99 == pytest.approx(7, rel=ERROR)


@pytest.mark.parametrize("wait", [-5.0, -0.0001, 0.0])
def test_what_was_accepted_before_it_was_due_counts_as_less_than_a_millisecond(conn, wait):
    insert_many(conn, 1)
    (email,) = claim(conn)
    conn.execute(
        "update outboxd.email set scheduled_at = clock_timestamp() - %s * interval '1 s'", (min(wait, -60),)
    )
    settle(conn, (email, Sent("re")))
    assert percentiles(conn) == [pytest.approx((0.00091,) * 3, rel=0.01)]


def test_settles_of_one_minute_add_up_and_only_acceptances_count(conn):
    sent_after(conn, [1.0] * 10)
    insert_many(conn, 3)
    first, second, third = claim(conn)
    settle(
        conn,
        (first, Sent("re")),
        (second, Failed(Failure("transient", "no"))),
        (third, Rejected(Failure("message", "no"))),
    )
    counted = conn.execute("select sum(emails) from outboxd.latency_bucket").fetchone()[0]
    shown = conn.execute("select sum(sent), sum(failed) from outboxd.throughput").fetchone()
    assert (counted, shown) == (11, (11, 1))
    assert conn.execute("select sum(sent) from outboxd.latency").fetchone() == (11,)


def test_a_lost_lease_counts_nothing(conn):
    insert_many(conn, 1)
    (email,) = claim(conn)
    for _ in range(2):
        settle(conn, (email, Sent("re")))
    assert conn.execute("select sum(emails) from outboxd.latency_bucket").fetchone() == (1,)


def test_a_retry_is_measured_from_the_first_time_it_was_due(conn):
    insert(conn)
    (email,) = claim(conn)
    settle(conn, (email, Failed(Failure("transient", "no"))))
    conn.execute(
        "update outboxd.email set scheduled_at = scheduled_at - interval '1 h', created_at = created_at - interval '1 h'"
    )
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp()")
    (again,) = claim(conn)
    settle(conn, (again, Sent("re")))
    assert percentiles(conn)[0][0] == pytest.approx(3600, rel=ERROR)


def test_queues_have_rows_of_their_own(conn):
    insert(conn)
    insert(conn, type="newsletter")
    emails = claim(conn, wanted=[slot(), slot(queue=3, priority=10)])
    settle(conn, *((email, Sent("re")) for email in emails))
    assert conn.execute("select array_agg(queue order by queue) from outboxd.latency").fetchone() == (
        ["marketing", "transactional"],
    )


def test_old_buckets_go_a_bounded_number_at_a_time_and_young_ones_stay(conn):
    conn.execute(
        "insert into outboxd.latency_bucket select now() - days * interval '1 d', 1, 1, 1"
        " from generate_series(1, 40) days"
    )
    assert [latency.prune(conn, limit=6) for _ in range(3)] == [6, 4, 0]
    (oldest,) = conn.execute("select now() - min(minute) from outboxd.latency_bucket").fetchone()
    assert oldest < latency.KEEP


MINUTES = 30_000
BUCKETS = 12
HOUR = "where minute > now() - interval '1 h'"


@pytest.fixture(scope="module")
def long_history(server: str, template: str) -> Iterator[psycopg.Connection]:
    """Three weeks of three busy queues: 1,080,000 buckets."""
    for url in fresh_database(server, template):
        with psycopg.connect(url, autocommit=True) as conn:
            minute = "date_trunc('minute', now()) - minute * interval '1 min'"
            conn.execute(
                f"insert into outboxd.latency_bucket select {minute}, queue, 20 + bucket, 7"
                " from generate_series(%s::int, 0, -1) minute, generate_series(1, 3) queue,"
                " generate_series(1, %s) bucket",
                (MINUTES - 1, BUCKETS),
            )
            conn.execute(
                f"insert into outboxd.tally select queue, {minute}, 9, 1"
                " from generate_series(1, 3) queue, generate_series(%s::int, 0, -1) minute",
                (MINUTES - 1,),
            )
            conn.execute("analyze outboxd.latency_bucket, outboxd.tally, outboxd.queue")
            yield conn


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        (f"select * from outboxd.latency {HOUR}", 3 * 60 * BUCKETS),
        (f"select * from outboxd.latency {HOUR} and queue = 'marketing'", 3 * 60 * BUCKETS),
        (f"select * from outboxd.throughput {HOUR}", 3 * 60),
        ("select queue, sent_24h from outboxd.queue_status", 3 * 60 * 24),
    ],
)
def test_an_hour_out_of_a_million_buckets_reads_only_its_own(long_history, question, rows):
    (plan,) = long_history.execute(f"explain (analyze, format json) {question}").fetchone()
    read = 0
    for node in walk(plan[0]["Plan"]):
        if node.get("Relation Name") in {"latency_bucket", "tally"}:
            assert node["Node Type"] != "Seq Scan", json.dumps(node)
            read += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    assert 0 < read <= rows
    assert plan[0]["Execution Time"] < 250


def walk(node: dict) -> Iterator[dict]:
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)
