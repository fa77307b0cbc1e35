"""`outboxd demo`: on a server of one's own it takes a database for itself and leaves nothing; its figures are true."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from factories import insert
from waiting import until

from outboxd.demo.figures import ENDS

Demo = Callable[..., "Running"]
OURS = "select datname from pg_database where datname ^@ 'outboxd_demo_'"


class Running:
    """`outboxd demo` as a process, and what it printed."""

    def __init__(self, log: Path, *options: str) -> None:
        self.log = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOXD_")}
        # A shell's background job ignores SIGINT, and so does what it starts, such as a whole run of tests.
        heard = ["env", "--default-signal=INT"]
        command = [*heard, sys.executable, "-m", "outboxd", "demo", "--port", "0", "--exit", *options]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=clean, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def says(self, words: str) -> None:
        def look() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return words in self.log.read_text()

        until(look, within=60, what=words)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    started: list[Running] = []

    def start(*options: str) -> Running:
        started.append(Running(tmp_path / f"demo-{len(started)}.log", *options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def home(local_server):
    """A server of one's own: roles are the server's, and other tests have theirs."""
    with psycopg.connect(local_server.url, autocommit=True) as conn:
        yield conn


def left(home: psycopg.Connection) -> list[str]:
    """The databases and roles that are there and were not in the beginning."""
    named = "select rolname from pg_roles where rolname ^@ 'outboxd_'"
    return [name for (name,) in home.execute(f"{OURS} union all {named}").fetchall()]


def test_on_an_existing_server_it_uses_a_database_of_its_own_and_drops_it(demo, home, local_server):
    home.execute("create table kept as select 1 as one")
    running = demo("--database", local_server.url, "--emails", "20")
    until(lambda: home.execute(OURS).fetchall(), what="a database of its own", within=60)
    assert running.process.wait(120) == 0, running.log.read_text()
    assert "the promise held" in running.log.read_text()
    assert "starting a local Postgres" not in running.log.read_text()
    assert home.execute("select to_regnamespace('outboxd'), to_regclass('orders')").fetchone() == (None, None)
    assert left(home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_its_database_is_dropped_when_it_is_interrupted(demo, home, local_server, number):
    running = demo("--database", local_server.url, "--emails", "3000")
    running.says(" s   committed")
    running.process.send_signal(number)
    assert running.process.wait(60) == 130, running.log.read_text()
    assert "Traceback" not in running.log.read_text()
    assert left(home) == []


def test_ctrl_c_ends_the_local_one_without_a_word(demo):
    running = demo("--emails", "3000")
    running.says(" s   committed")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 130, running.log.read_text()
    assert "Traceback" not in running.log.read_text()


def test_roles_that_somebody_uses_stay(demo, home, local_server):
    running = demo("--database", local_server.url, "--emails", "3000")
    running.says(" s   committed")
    home.execute("create schema elsewhere; grant usage on schema elsewhere to outboxd_app")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 130, running.log.read_text()
    assert left(home) == ["outboxd_app"]


def as_role(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}"))


def test_a_role_that_may_create_databases_is_enough(demo, home, local_server):
    home.execute("create role modest login createdb")
    running = demo("--database", as_role(local_server.url, "modest"), "--emails", "20")
    assert running.process.wait(120) == 0, running.log.read_text()
    assert left(home) == []


def test_a_role_that_may_not_create_databases_is_told_what_to_do(demo, home, local_server):
    home.execute("create role poor login")
    running = demo("--database", as_role(local_server.url, "poor"))
    assert running.process.wait(60) == 1
    (line,) = running.log.read_text().splitlines()
    assert line.startswith("outboxd: the demo makes a database of its own, and the role poor may not create")
    assert "`alter role poor createdb`" in line


@pytest.mark.parametrize(
    ("url", "words"),
    [("postgresql://127.0.0.1:1/x", "cannot reach the database"), ("no url", "looks like postgresql://")],
)
def test_a_server_that_cannot_be_reached_is_one_line(demo, url, words):
    running = demo("--database", url)
    assert running.process.wait(60) == 1
    assert words in running.log.read_text()
    assert len(running.log.read_text().splitlines()) == 1


FAILED = (
    "insert into outboxd.attempt (id, lease_id, outcome, fenced) values (%s, gen_random_uuid(), %s, true)"
)
SENT = "insert into outboxd.delivery (id, state, queue, attempts) values (%s, 'sent', 1, 1)"
DEAD = (
    "insert into outboxd.dead_letter (id, uid, certainty, queue, type, tenant, created_at, error_class, message,"
    " signature, attempts) values (%s, gen_random_uuid(), 'not_accepted', 'transactional', 'x', '', now(), 'x', '', '', 1)"
)


@pytest.mark.parametrize(
    ("failures", "end", "retried"),
    [
        ([], SENT, 0),
        (["rejected"], DEAD, 0),
        (["rejected", "rejected"], DEAD, 1),
        (["provider"], SENT, 1),
        (["provider", "provider"], SENT, 1),
        (["provider"], None, 0),
    ],
)
def test_retried_is_what_was_asked_for_again_after_a_failure(conn, failures, end, retried):
    id_ = insert(conn)
    for kind in failures:
        conn.execute(FAILED, (id_, kind))
    if end:
        conn.execute(end, (id_,))
    cursor = conn.execute(ENDS)
    names = [column.name for column in cursor.description]
    assert dict(zip(names, cursor.fetchone(), strict=True))["retried"] == retried
