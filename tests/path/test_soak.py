"""What a daemon holds over time: memory, threads, descriptors and connections, while it sends at half load."""

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from conftest_path import Daemon, count, drained, only_once
from factories import payload
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]

LOT = 20
GROWTH = 1024 * 1024 / 600  # bytes per second: 1 MB in ten minutes
NOISE = 2 * 1024 * 1024  # bytes that an allocator may keep, in a run of seconds


def told(line: dict, *, pooled: bool) -> bool:
    """What a daemon behind a pooler is to say."""
    return pooled and line["event"].startswith("the listener goes through a pooler")


def holds(pid: int) -> dict[str, int]:
    """Resident bytes, threads and descriptors of a process."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return {
        "rss": int(status["VmRSS"].split()[0]) * 1024,
        "threads": int(status["Threads"]),
        "fds": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


def connections(conn: psycopg.Connection) -> dict[str, int]:
    """The lasting ones; and that which waits for the bell's key while an insert is open, which comes and goes."""
    lasting, waiters = conn.execute(
        "select count(*) filter (where application_name <> 'outboxd waiter'),"
        " count(*) filter (where application_name = 'outboxd waiter')"
        " from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        " and backend_type = 'client backend' and application_name like 'outboxd%%'"
    ).fetchone()
    return {"connections": lasting, "waiters": waiters}


def waiting(conn: psycopg.Connection) -> int:
    """Emails that wait or are in hand, in one statement: an email that moves meanwhile is in one of them."""
    return conn.execute(
        "select (select count(*) from outboxd.ready)"
        " + (select count(*) from outboxd.batch join outboxd.batch_member using (batch_uid) where due_at is not null)"
        " + (select coalesce(sum(cardinality(ids)), 0) from outboxd.lease)"
    ).fetchone()[0]


def slope(points: list[tuple[float, float]]) -> float:
    """The least squares' rise per second."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def trade(database: str, stop: threading.Event, pace: float = math.inf) -> None:
    """Insert so many emails per second until the stop, each in a transaction of its own; one in a thousand fails once.

    Not one in a hundred: full batches would all fail once, and the breaker rightly take the provider for ill.
    """
    with psycopg.connect(database, autocommit=True) as app:
        begun, n = time.monotonic(), 0
        while not stop.wait(max(0.0, begun + n / pace - time.monotonic())):
            for _ in range(LOT):
                n += 1
                to = "fault+500.1@example.org" if n % 1000 == 0 else f"reader-{n % 5000}@example.org"
                app.execute(
                    "insert into outboxd.email (type, payload) values (%s, %s)",
                    ("newsletter" if n % 2 else "welcome", json.dumps(payload(to=to))),
                )


@contextmanager
def trading(database: str, pace: float = math.inf) -> Iterator[None]:
    stop = threading.Event()
    app = threading.Thread(target=trade, args=(database, stop, pace))
    app.start()
    try:
        yield
    finally:
        stop.set()
        app.join()


def stand_still(database: str, conn: psycopg.Connection, one: Daemon) -> None:
    """For three seconds, and then send what came meanwhile while more comes."""
    with trading(database):
        one.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(3)
        one.process.send_signal(signal.SIGCONT)
        threading.Event().wait(2)
    until(lambda: drained(conn), within=60, what="the backlog to go")


def full_load(database: str, conn: psycopg.Connection, seconds: float) -> float:
    """Emails per second of an application that inserts as fast as it can beside this daemon, until all are sent."""
    begun = time.monotonic()
    with trading(database):
        threading.Event().wait(seconds)
    until(lambda: drained(conn), within=120, what="what came at full load to go")
    return count(conn, "email") / (time.monotonic() - begun)


@pytest.mark.parametrize(
    ("full", "stops", "warm", "seconds", "every", "load"),
    [(2, 1, 6, 8, 0.4, 0.2), pytest.param(20, 10, 180, 1200, 5.0, 0.45, marks=pytest.mark.long)],
    ids=["seconds", "twenty minutes"],
)
def test_it_holds_no_more_as_time_goes_by(
    database, conn, sink, daemon, reach, full, stops, warm, seconds, every, load
):
    """`load`: the least share of the full load that is sent; less in a suite, whose other tests come and go."""
    pooled = reach(database) != database
    running = sink(keep=1000)
    conn.execute("update outboxd.queue set backoff_base = '100 ms'")
    one = daemon(running.url, own=True, OUTBOXD_SENDER__THREADS="8")
    most = full_load(database, conn, full)
    for _ in range(stops):  # what full claims take is kept in part, and belongs to the warm-up
        stand_still(database, conn, one)
    before, tick, seen, minute = count(conn, "email"), threading.Event(), [], max(1, int(60 / every))
    print(f"{most:.0f} emails per second at full load")
    with trading(database, most / 2):
        tick.wait(warm)
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            seen.append((passed, holds(one.process.pid) | connections(conn) | {"waiting": waiting(conn)}))
            tick.wait(every)
    print("emails that wait or are in hand, by the minute:", [held["waiting"] for _, held in seen[::minute]])
    until(lambda: drained(conn), within=60, what="the rest to go")
    grown = slope([(at, held["rss"]) for at, held in seen])
    span = {
        key: (min(held[key] for _, held in seen), max(held[key] for _, held in seen)) for key in seen[0][1]
    }
    sent = count(conn, "delivery", "state = 'sent'")
    print(
        "rss in MB, by the minute:",
        [round(held["rss"] / 2**20, 1) for _, held in seen[::minute]],
    )
    print(
        f"{(sent - before) / (warm + seconds):.0f} emails per second at half of it; rss {grown * 600 / 2**20:+.2f} MB per ten minutes; {span}"
    )
    assert sent == count(conn, "email")
    assert sent - before > load * most * (warm + seconds), "less than the load was sent"
    assert span["threads"][0] == span["threads"][1]
    assert span["connections"][0] == span["connections"][1]
    assert span["waiters"][1] <= 1
    assert span["fds"][1] - span["fds"][0] <= 8, "one socket to the provider comes and goes with each thread"
    assert grown * seconds <= max(GROWTH * seconds, NOISE if seconds < 600 else 0)
    lines = [json.loads(line) for line in one.log.read_text().splitlines()]
    assert [
        line for line in lines if line["level"] not in {"info", "debug"} and not told(line, pooled=pooled)
    ] == []
    assert running.provider.summary()["duplicates"] == 0
    only_once(running)
