"""`outboxd dev` as a black box: what it prints works, and nothing is left when it ends."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
from factories import insert, payload
from processes import runs
from waiting import until

Dev = Callable[..., "Running"]


class Running:
    """`outboxd dev` as a process, and what it printed."""

    def __init__(self, log: Path, *options: str) -> None:
        self.log = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOXD_")}
        command = [sys.executable, "-m", "outboxd", "dev", "--port", "0", "--rate-limit", "0", *options]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=clean, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def url(self, name: str) -> str:
        def look() -> Any:
            text = self.log.read_text()
            assert self.process.poll() is None, text
            return re.search(rf"^  {name} +(\S+)", text, re.MULTILINE)

        return until(look, within=60, what=f"the URL of {name}")[1]

    def children(self) -> set[int]:
        """Every process below it."""
        found, waiting = set(), [self.process.pid]
        while waiting:
            pid = waiting.pop()
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                below = {int(child) for child in task.read_text().split()} - found
                found |= below
                waiting += below
        return found


def gone(pids: set[int]) -> bool:
    """Whether none of them runs (a zombie of somebody else's does not)."""
    return not any(runs(pid) for pid in pids)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    started: list[Running] = []

    def start(*options: str) -> Running:
        started.append(Running(tmp_path / f"dev-{len(started)}.log", *options))
        return started[-1]

    yield start
    for one in started:
        below = one.children()
        one.process.kill()
        one.process.wait()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def arrives(inbox: str, subject: str) -> None:
    until(lambda: subject in urlopen(inbox).read().decode(), what=f"{subject} in the inbox")


def interrupt(running: Running) -> tuple[int, set[int]]:
    below = running.children()
    running.process.send_signal(signal.SIGINT)
    return running.process.wait(40), below


def test_an_email_inserted_into_its_database_is_in_its_inbox_and_ctrl_c_leaves_nothing(dev):
    running = dev("--database-port", "0")
    database, inbox = running.url("database"), running.url("inbox")
    with psycopg.connect(database, autocommit=True) as conn:
        insert(conn, body=payload(subject="First light"))
    arrives(inbox, "First light")
    code, below = interrupt(running)
    assert code == 0, running.log.read_text()
    assert len(below) > 2
    assert gone(below)
    assert "Traceback" not in running.log.read_text()


def test_a_database_of_ones_own_is_migrated_used_and_kept(dev, empty_database):
    running = dev("--database", empty_database)
    inbox = running.url("inbox")
    with psycopg.connect(empty_database, autocommit=True) as conn:
        insert(conn, body=payload(subject="Kept here"))
        arrives(inbox, "Kept here")
        assert interrupt(running)[0] == 0
        assert conn.execute("select state from outboxd.email_status").fetchall() == [("sent",)]
        assert conn.execute("select count(*) from outboxd.worker").fetchone() == (0,)


def test_a_database_on_which_a_daemon_runs_is_refused(dev, database, conn):
    conn.execute(
        "insert into outboxd.worker (worker, host, pid, version, threads, beat_at)"
        " values (gen_random_uuid(), 'other.example', 7, '1', 1, clock_timestamp())"
    )
    running = dev("--database", database)
    assert running.process.wait(60) == 1
    assert "a daemon runs on this database already (other.example, pid 7)" in running.log.read_text()


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_kill_9_leaves_nothing_running(dev, empty_database, whose):
    """Also where the database stays, which would keep a forgotten daemon at work."""
    running = dev(*(("--database", empty_database) if whose == "theirs" else ("--database-port", "0")))
    running.url("inbox")
    below = running.children()
    running.process.kill()
    until(lambda: gone(below), what="everything below it to end", within=40)


def test_a_port_in_use_is_named(dev):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = dev("--database-port", str(taken.getsockname()[1]))
        assert running.process.wait(60) == 1
    assert "choose another --database-port" in running.log.read_text()
