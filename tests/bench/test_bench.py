"""What it costs and how long it takes, on this machine, with everything on it. Compared within one run."""

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import psycopg
import pytest
from conftest_path import count, drained
from factories import insert, insert_many, payload
from waiting import until

from outboxd.db.migrate import migrate
from outboxd.localpg import LocalPostgres, wheel_binaries

pytestmark = pytest.mark.bench
BARE = Path(__file__).parent / "bare_server.py"
RUN = {"OUTBOXD_RESEND__DEADLINE": "20s", "OUTBOXD_SENDER__LEASE": "60s"}


@pytest.fixture
def bare():
    """A bare provider with 50 ms of think time."""
    with subprocess.Popen([sys.executable, BARE, "0.05"], stdout=subprocess.PIPE, text=True) as server:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


def bare_client_rate(url: str, requests: int, threads: int) -> float:
    """Requests per second of one httpx.Client per thread, with nothing else to do."""
    body = b'{"from":"a@b.co","to":"c@d.co","subject":"x","html":"y"}'
    context = httpx.create_ssl_context()

    def work() -> None:
        with httpx.Client(verify=context, trust_env=False) as client:
            for _ in range(requests // threads):
                client.post(f"{url}/emails", content=body, headers={"Idempotency-Key": "k"})

    workers = [threading.Thread(target=work) for _ in range(threads)]
    started = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return requests / (time.monotonic() - started)


def test_throughput_of_single_requests(conn, daemon, bare, keep, short):
    emails = 1280 if short else 12_800
    client = bare_client_rate(bare, emails, 64)
    conn.execute("update outboxd.queue set batch = false")
    insert_many(conn, emails)
    daemon(bare, OUTBOXD_SENDER__THREADS="64", own=True, **RUN)
    until(lambda: drained(conn), within=120, what="the queue to drain")
    first, last = conn.execute("select min(at), max(at) from outboxd.delivery").fetchone()
    rate = emails / (last - first).total_seconds()
    keep(emails_per_second=round(rate), bare_client=round(client), share=round(rate / client, 2))
    assert short or rate >= 700 or rate >= 0.75 * client


def test_latency_from_commit_to_arrival(conn, sink, daemon, keep, short):
    emails = 40 if short else 300
    running = sink()
    daemon(running.url, OUTBOXD_SENDER__THREADS="20", own=True, **RUN)
    insert(conn)
    until(lambda: drained(conn), what="the warm-up")
    committed = {}
    pace = threading.Event()
    for _ in range(emails):
        id_ = insert(conn)
        committed[id_] = time.time()
        pace.wait(0.05)
    until(lambda: drained(conn), what="the queue to drain")
    uids = {str(uid): id_ for id_, uid in conn.execute("select id, uid from outboxd.email").fetchall()}
    arrived = {uids[entry.uid]: entry.at for entry in running.provider.entries}
    waits = sorted((arrived[id_] - at) * 1000 for id_, at in committed.items())
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    keep(p50_ms=round(p50, 2), p99_ms=round(p99, 2))
    assert short or (p50 <= 3 and p99 <= 15)


STATEMENT = re.compile(r"^\d.* LOG:  (?:statement|execute [^:]*): (?:\n\t)?(.*)$", re.MULTILINE)
BRACKETS = frozenset({"begin", "commit", "rollback"})  # no round trip of their own within a pipeline


def log_statements(server: LocalPostgres) -> Path:
    """Each statement of everybody is logged from now on, and nobody is there but who is called; where."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("alter system set log_statement = 'all'")
        admin.execute("alter system set autovacuum = 'off'")  # its transactions are counted with the others
        admin.execute("select pg_reload_conf()")
    return server._home / "log"


def test_cost_of_being_idle(local_server, sink, daemon, keep, short):
    seconds = 6 if short else 30
    migrate(local_server.url)
    log = log_statements(local_server)
    one = daemon(sink().url, url=local_server.url, own=True, **RUN)
    with psycopg.connect(local_server.url, autocommit=True) as conn:
        insert_many(conn, 20)
        until(lambda: drained(conn), what="the warm-up")
        calls = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"
        threading.Event().wait(2 if short else 12)  # backends that fell idle report their last work late
        before, read = conn.execute(calls).fetchone()[0], log.stat().st_size
        threading.Event().wait(seconds)  # how long it idles is what is measured
        said = log.read_bytes()[read:].decode()
        conn.execute("select pg_stat_clear_snapshot()")
        transactions = conn.execute(calls).fetchone()[0] - before
    asked = Counter(STATEMENT.findall(said))
    brackets = sum(times for text, times in asked.items() if text.lower() in BRACKETS)
    status = Path(f"/proc/{one.process.pid}/status").read_text()
    megabytes = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
    keep(
        statements_per_second=round((asked.total() - brackets) / seconds, 2),
        begins_and_commits_per_second=round(brackets / seconds, 2),
        transactions_per_second=round(transactions / seconds, 2),
        rss_mb=round(megabytes, 1),
        statements={text: round(times / seconds, 3) for text, times in asked.most_common()},
    )
    assert asked.total() > brackets, "nothing was logged"
    assert short or (asked.total() - brackets) / seconds <= 2
    assert megabytes <= 80


PLAIN = """
create table plain (like outboxd.email including defaults including identity) partition by range (id);
alter table plain add primary key (id);
create index on plain (uid);
create index on plain using gin (recipients) with (fastupdate = off);
create table plain_p0 partition of plain for values from (0) to (1000000);
create table plain_p1 partition of plain for values from (1000000) to (2000000);
create table plain_default partition of plain default;
"""
BODY = str(payload(html="<p>Hi</p>" * 110)).replace("'", '"')
INTO_PLAIN = f"insert into plain (type, payload, queue, priority, recipients) values ('welcome', '{BODY}', 'transactional', 1, '{{ada@example.org}}');"
INTO_EMAIL = f"insert into outboxd.email (type, payload) values ('welcome', '{BODY}');"


def test_what_an_inserting_application_keeps(tmp_path, keep, short):
    binaries = wheel_binaries()
    seconds, rounds = (1, 1) if short else (2, 9)  # in turn, so that what else runs here meets both
    rates: dict[str, list[float]] = {"plain": [], "email": []}
    with LocalPostgres({"shared_buffers": "256MB", "max_wal_size": "4GB"}, bin_dir=binaries) as server:
        migrate(server.url)
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute(PLAIN)
            for name, statement in (("plain", INTO_PLAIN), ("email", INTO_EMAIL)):
                (tmp_path / name).write_text(statement)
            for _ in range(rounds):
                for name, found in rates.items():
                    command = [
                        binaries / "pgbench",
                        "-n",
                        "-c",
                        "8",
                        "-j",
                        "2",
                        "-T",
                        str(seconds),
                        "-f",
                        tmp_path / name,
                        server.url,
                    ]
                    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
                    found.append(float(re.search(r"tps = ([\d.]+)", done.stdout)[1]))
            assert count(conn, "ready") > 0
    plain, email = (statistics.median(rates[name]) for name in ("plain", "email"))
    share = statistics.median(ours / bare for ours, bare in zip(rates["email"], rates["plain"], strict=True))
    keep(plain_tps=round(plain), outboxd_tps=round(email), share=round(share, 2))
    assert short or share >= 0.55
