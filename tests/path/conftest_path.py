"""A black box: the daemon as a process, its database, and the local Resend with its ledger."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from forking import Forked, Forks
from waiting import until

from outboxd.sink.options import SinkOptions
from outboxd.sink.server import Running, running_sink

WITH_STALLED = "import outboxd.daemon, runpy; outboxd.daemon.STALLED = {}; runpy.run_module('outboxd', run_name='__main__')"
FAST = {"OUTBOXD_RESEND__DEADLINE": "2s", "OUTBOXD_SENDER__LEASE": "12s", "OUTBOXD_HEALTH__LISTEN": ""}


class Daemon:
    """`outboxd run` as a process of its own."""

    def __init__(
        self,
        database: str,
        api_url: str,
        log: Path,
        *,
        arguments: Sequence[str] = (),
        stalled: float | None = None,
        forks: Forks | None = None,
        **environment: str,
    ) -> None:
        """`stalled`: seconds without an answer after which a connection is cut, where that is not what it ships with.
        `forks`: what it is forked from; else it has an interpreter of its own."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOXD_")}
        self._environment = clean | FAST | {
            "DATABASE_URL": database,
            "RESEND_API_KEY": "re_test_0123456789",
            "RESEND_API_URL": api_url,
        } | environment  # fmt: skip
        self._database = database
        code = ("-m", "outboxd") if stalled is None else ("-c", WITH_STALLED.format(stalled))
        self._command = [sys.executable, *code, "run", *arguments]
        self._arguments = arguments
        as_it_is = stalled is None and "PYTHONPATH" not in environment  # and no other release
        self._forks = forks if as_it_is else None
        self.log = log
        self.process: subprocess.Popen[bytes] | Forked | None = None

    def start(self, *, wait: bool = True) -> None:
        if self._forks is not None:
            self.process = self._forks.start(self._environment, self._arguments, self.log)
        else:
            with self.log.open("ab") as out:
                self.process = subprocess.Popen(self._command, env=self._environment, stderr=out, stdout=out)
        if wait:
            with psycopg.connect(self._database, autocommit=True) as conn:
                until(lambda: self._runs(conn), what="the daemon to run")

    def _runs(self, conn: psycopg.Connection) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return count(conn, "worker", f"pid = {self.process.pid}") == 1

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self, *, within: float = 15.0) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)


@pytest.fixture
def sink() -> Iterator[Callable[..., Running]]:
    """Starts local Resends."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            running_sink(SinkOptions(**({"port": 0, "rate_limit": None} | options)))
        )


@pytest.fixture(scope="session")
def reach(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """How daemons reach a database: directly, or through a pooler with `--via-pgbouncer`."""
    if not request.config.getoption("--via-pgbouncer"):
        yield lambda url: url
        return
    from pooler import Poolers

    poolers = Poolers()
    yield poolers.url
    poolers.close()


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """What the daemons of the path are forked from."""
    made = Forks()
    yield made
    made.close()


@pytest.fixture
def daemon(
    database: str, tmp_path: Path, reach: Callable[[str], str], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons on the test's database. `own`: with an interpreter of its own, as what is measured has."""
    started: list[Daemon] = []

    def start(
        api_url: str,
        *,
        url: str | None = None,
        wait: bool = True,
        limits: bool = False,
        arguments: Sequence[str] = (),
        stalled: float | None = None,
        own: bool = False,
        **environment: str,
    ) -> Daemon:
        if not limits:
            for one in {database, url or database}:
                lift_limits(one)
        direct = url or database
        log = tmp_path / f"daemon-{len(started)}.log"
        settings = {"DATABASE_URL": reach(direct)} | environment
        forks = None if own else request.getfixturevalue("forks")
        started.append(
            Daemon(direct, api_url, log, arguments=arguments, stalled=stalled, forks=forks, **settings)
        )
        started[-1].start(wait=wait)
        return started[-1]

    yield start
    for one in started:
        one.kill()


def lift_limits(url: str) -> None:
    """Most tests send many emails to few addresses; those of limits keep them. A standby has what its primary has."""
    refused = (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege)
    with contextlib.suppress(psycopg.OperationalError, *refused), psycopg.connect(url) as conn:
        conn.execute("update outboxd.limit_rule set most = null where most is not null")


def count(conn: psycopg.Connection, table: str, where: str = "true") -> int:
    return conn.execute(f"select count(*) from outboxd.{table} where {where}").fetchone()[0]


def drained(conn: psycopg.Connection) -> bool:
    """Whether nothing waits and nothing is in hand."""
    tables = ("ready", "lease", "batch")  # in one statement: an email that moves meanwhile is in one of them
    waits = " or ".join(f"exists (select from outboxd.{table})" for table in tables)
    return not conn.execute(f"select {waits}").fetchone()[0]


def singly(conn: psycopg.Connection) -> None:
    """One request per email, for tests that count requests or emails on the wire."""
    conn.execute("update outboxd.queue set batch = false")


def dies(conn: psycopg.Connection, one: Daemon, *, within: str = "1 s") -> None:
    """Kill the daemon; what its leases had left is shortened, so that nobody waits for their end in full."""
    one.kill()
    conn.execute(
        "update outboxd.lease set lease_until = least(lease_until, clock_timestamp() + %s::interval)",
        (within,),
    )


def quick_breaker(conn: psycopg.Connection, open_for: str = "1 s") -> None:
    """The breaker is open for a second or so instead of half a minute."""
    conn.execute(
        "insert into outboxd.breaker (account, open_for) values ('default', %s::interval)", (open_for,)
    )


def only_once(running: Running) -> dict[str, Any]:
    summary = running.provider.summary()
    assert summary["duplicates"] == 0
    assert summary["keys_with_two_bodies"] == 0
    return summary


OLD, NEW = (
    "re_old_0123456789",
    "re_new_0123456789",
)  # keys: the one that a daemon starts with, and its successor


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A credential that can be rotated."""
    file = tmp_path / "credentials" / "resend_api_key"
    file.parent.mkdir()
    file.write_text(OLD + "\n")
    return file
