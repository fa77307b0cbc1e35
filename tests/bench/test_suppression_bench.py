"""The suppression gate against millions of addresses, and the import of a million. Full size: a few minutes."""

import time
from uuid import uuid4

import psycopg
import pytest

from outboxd.db.session import path_settings
from outboxd.db.suppression import among

pytestmark = pytest.mark.bench
HELD = (
    "insert into outboxd.suppression (address_hash, scope, reason, source, address)"
    " select outboxd.keyed_hash('user' || n || '@example.org', inner_pad, outer_pad), 'all', 'hard_bounce', 'bench',"
    " 'user' || n || '@example.org' from outboxd.secret, generate_series(%s::integer, %s::integer) as n order by 1"
)


def test_gate_for_a_batch_of_a_hundred(conn, connect, keep, short):
    held, rounds, chunk = (50_000, 50, 50_000) if short else (5_000_000, 2_000, 500_000)
    started = time.monotonic()
    for first in range(1, held + 1, chunk):
        conn.execute(HELD, (first, first + chunk - 1))
    filled = time.monotonic() - started
    conn.execute("set session_replication_role = replica")
    conn.execute(
        "insert into outboxd.email (type, payload, queue, priority, recipients)"
        " select 'welcome', '{}', 'transactional', 1, array[case when n %% 100 = 0 then 'user' else 'free' end"
        " || (n * 7919 %% %s + 1) || '@example.org'] from generate_series(1, %s) as n",
        (held, 100 * rounds),
    )
    conn.execute("analyze outboxd.suppression, outboxd.email")
    megabytes = conn.execute("select pg_total_relation_size('outboxd.suppression') / 1048576").fetchone()[0]
    path = connect()
    times, hits = [], 0
    for number in range(rounds):
        ids = list(range(100 * number + 1, 100 * number + 101))
        with path.transaction():
            path_settings(path)
            started = time.perf_counter()
            hits += len(among(path, ids))
            times.append((time.perf_counter() - started) * 1000)
    times.sort()
    p50, p99 = times[rounds // 2], times[rounds * 99 // 100]
    keep(
        held=held,
        p50_ms=round(p50, 2),
        p99_ms=round(p99, 2),
        hits=hits,
        size_mb=float(megabytes),
        filled_s=round(filled, 1),
    )
    assert hits == rounds
    assert short or p99 <= 5


def test_import_of_a_million(database, conn, keep, short, tmp_path):
    import subprocess
    import sys

    count = 20_000 if short else 1_000_000
    file = tmp_path / "list.csv"
    with file.open("w") as out:
        out.write("email,reason\n")
        out.writelines(
            f"User{number}.{uuid4().hex[:8]}@Example{number % 1000}.org,hard_bounce\n"
            for number in range(count)
        )
    started = time.monotonic()
    command = [sys.executable, "-m", "outboxd", "suppressions", "import", file]
    done = subprocess.run(command, env={"DATABASE_URL": database}, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    assert done.stdout.startswith(f"added {count}, ")
    assert done.stderr.count("records") == count // 100_000
    (summary,) = timed(conn, "select active from outboxd.suppression_summary")
    keep(count=count, seconds=round(seconds, 1), rows_per_second=round(count / seconds), summary_ms=summary)
    assert short or seconds < 120


def timed(conn: psycopg.Connection, statement: str) -> tuple[float]:
    started = time.perf_counter()
    conn.execute(statement).fetchall()
    return (round((time.perf_counter() - started) * 1000, 1),)
