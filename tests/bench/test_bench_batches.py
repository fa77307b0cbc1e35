"""A hundred emails a request: what goes through with everything on this machine, and at the provider's default pace."""

import subprocess
import sys
import time

import httpx
import psycopg
import pytest
from conftest_path import count
from factories import payload
from psycopg.types.json import Jsonb
from waiting import until

pytestmark = pytest.mark.bench
RUN = {"OUTBOXD_RESEND__DEADLINE": "20s", "OUTBOXD_SENDER__LEASE": "60s"}


@pytest.fixture
def resend(tmp_path):
    """Starts `outboxd sink` as a process of its own; its URL."""
    started = []

    def start(*options: str) -> str:
        log = tmp_path / f"sink-{len(started)}.log"
        with log.open("w") as out:
            command = [sys.executable, "-m", "outboxd", "sink", "--port", "0", *options]
            started.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT))
        return until(
            lambda: next((word for word in log.read_text().split() if word.startswith("http")), None)
        )

    yield start
    for one in started:
        one.terminate()
        one.wait(10)


def many(conn: psycopg.Connection, emails: int) -> None:
    """One email each for as many readers."""
    conn.execute(
        "insert into outboxd.email (type, payload)"
        " select 'newsletter', %s::jsonb || jsonb_build_object('to', 'reader-' || n || '@example.org')"
        " from generate_series(1, %s) as n",
        (Jsonb(payload(html="<p>Hi</p>" * 40)), emails),
    )


def drain(conn, url: str, emails: int, *, within: float) -> tuple[float, dict]:
    """Emails per second from the first acceptance to the last, and the provider's summary."""
    until(lambda: count(conn, "delivery") == emails, within=within, what="the queue to drain")
    first, last = conn.execute("select min(at), max(at) from outboxd.delivery").fetchone()
    summary = httpx.get(f"{url}/_sink/summary", trust_env=False).json()
    assert summary["accepted"] == emails
    assert summary["duplicates"] == summary["keys_with_two_bodies"] == 0
    return emails / max((last - first).total_seconds(), 0.001), summary


def test_throughput_of_batches(conn, resend, daemon, keep, short):
    emails = 5_000 if short else 50_000
    url = resend("--rate-limit", "0")
    many(conn, emails)
    started = time.monotonic()
    daemon(url, OUTBOXD_SENDER__THREADS="16", own=True, **RUN)
    rate, summary = drain(conn, url, emails, within=120)
    keep(
        emails_per_second=round(rate),
        requests=summary["requests"],
        seconds=round(time.monotonic() - started, 1),
    )
    assert short or rate >= 5_000


def test_throughput_at_ten_requests_a_second(conn, resend, daemon, keep, short):
    emails = 4_000 if short else 50_000
    url = resend("--rate-limit", "10")
    many(conn, emails)
    daemon(url, OUTBOXD_SENDER__THREADS="16", own=True, **RUN)
    rate, summary = drain(conn, url, emails, within=120)
    limited = summary["verdicts"].get("limited", 0)
    keep(emails_per_second=round(rate), requests=summary["requests"], too_many=limited)
    assert short or rate >= 950
    # of the few requests of a short run one is more than a hundredth
    assert limited < 0.01 * summary["requests"] or (short and limited == 1)
