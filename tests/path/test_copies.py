"""Real copies of a database, and a real promotion: what sends, and what must not."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from conftest_path import count, drained, only_once
from factories import insert, insert_many
from servers import FAST, binaries, memory
from waiting import until

from outboxd.db.fence import Fence, whereabouts
from outboxd.db.migrate import migrate
from outboxd.localpg import LocalPostgres

WAITING = 20


class Copier:
    """The original, a server of the test's own, and copies of it; `bin` has the server's own tools."""

    def __init__(self, original: LocalPostgres, bin_dir: Path) -> None:
        self.original = original
        self.bin = bin_dir
        self.started: list[LocalPostgres] = []

    def server(self, data_dir: Path | None = None) -> LocalPostgres:
        self.started.append(LocalPostgres(FAST, bin_dir=self.bin, data_dir=data_dir, within=memory()))
        self.started[-1].start()
        return self.started[-1]

    def base_backup(self, *options: str) -> LocalPostgres:
        """A started copy of the whole server; with "-R" a standby of it."""
        home = self.original._home
        target = home / f"copy-{len(self.started)}"
        command = [
            *self.original._wrap,
            self.bin / "pg_basebackup",
            "-h",
            home,
            "-U",
            "postgres",
            "-D",
            target,
        ]
        subprocess.run([*command, "-c", "fast", *options], check=True, capture_output=True)
        return self.server(target)

    def dump_and_restore(self, into: str) -> None:
        """The schema with its rows, as a person moves it."""
        dump = [self.bin / "pg_dump", "--no-owner", "--no-privileges", self.original.url]
        text = subprocess.run(dump, check=True, capture_output=True).stdout
        psql = [self.bin / "psql", "-q", "-v", "ON_ERROR_STOP=1", into]
        subprocess.run(psql, input=text, check=True, capture_output=True)


@pytest.fixture
def copier(local_server: LocalPostgres, request: pytest.FixtureRequest) -> Iterator[Copier]:
    made = Copier(local_server, binaries(request.config.getoption("--pg-version")))
    yield made
    for server in reversed(made.started):
        server.close()


@pytest.fixture
def original(copier: Copier, sink, daemon) -> str:
    """A database that sent one email and has twenty waiting; its daemon is stopped."""
    url = copier.original.url
    migrate(url)
    first = daemon(sink().url, url=url)
    with psycopg.connect(url, autocommit=True) as conn:
        insert(conn)
        until(lambda: count(conn, "delivery") == 1, what="the first email to be sent")
        first.terminate()
        insert_many(conn, WAITING)
    return url


def outboxd(url: str, *arguments: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOXD_")}
    known = {"DATABASE_URL": url, "RESEND_API_KEY": "re_test_0123456789"}
    command = [sys.executable, "-m", "outboxd", *arguments]
    done = subprocess.run(
        command, env=clean | known | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def observes(daemon) -> Callable[[], bool]:
    return lambda: "nothing is sent from this database" in daemon.log.read_text()


def assert_only_new_mail_goes(url: str, running, daemon, pending: str, **environment: str) -> None:
    """The daemon observes; adopted, it sends what is new and nothing of what was waiting."""
    copy = daemon(running.url, url=url, wait=False, **environment)
    until(observes(copy), what="the daemon to observe")
    assert "adopted" in outboxd(url, "adopt", f"--pending={pending}", **environment)
    with psycopg.connect(url, autocommit=True) as conn:
        insert(conn, body={"from": "a@shop.example", "to": "new@example.org", "subject": "s", "text": "t"})
        until(lambda: count(conn, "delivery", "state = 'sent'") == 2, what="the new email to be sent")
    assert [entry.to for entry in running.provider.entries] == [["new@example.org"]]


@pytest.mark.slow
@pytest.mark.parametrize("other", [{"OUTBOXD_ENVIRONMENT": "staging"}, {"RESEND_API_KEY": "re_staging_0123"}])
@pytest.mark.usefixtures("original")
def test_a_base_backup_under_another_environment_or_key_sends_nothing_until_adopted(
    copier, sink, daemon, other
):
    copy = copier.base_backup()
    assert_only_new_mail_goes(copy.url, sink(), daemon, "discard", **other)


@pytest.mark.parametrize(
    "where", ["another server", pytest.param("another database", marks=pytest.mark.slow)]
)
def test_a_restored_dump_sends_nothing_until_adopted(original, copier, sink, daemon, where):
    if where == "another server":
        url = copier.server().url
    else:
        url = copier.original.url_for("restored")
        with psycopg.connect(original, autocommit=True) as admin:
            admin.execute("create database restored")
    copier.dump_and_restore(url)
    assert_only_new_mail_goes(url, sink(), daemon, "hold")
    assert f"released {WAITING}" in outboxd(url, "adopt", "--pending=send")


@pytest.mark.slow
@pytest.mark.usefixtures("original")
def test_an_adopted_copy_sends_what_waited_where_that_is_wanted(copier, sink, daemon):
    running, url = sink(), copier.base_backup().url
    assert "adopted" in outboxd(url, "adopt", "--pending=send", OUTBOXD_ENVIRONMENT="staging")
    daemon(running.url, url=url, OUTBOXD_ENVIRONMENT="staging")
    with psycopg.connect(url, autocommit=True) as conn:
        until(lambda: count(conn, "delivery") == 1 + WAITING, what="all that waited to be sent")
    assert only_once(running)["accepted"] == WAITING


def promoted(copier: Copier, standby: LocalPostgres) -> None:
    copier.original.stop("immediate")
    with psycopg.connect(standby.url, autocommit=True) as conn:
        assert conn.execute("select pg_promote(true, 60)").fetchone() == (True,)


DIRT = (
    "create table public.dirt as select repeat(md5(n::text), 100) as text from generate_series(1, 5000) as n"
)


def caught_up(original: str) -> Callable[[], bool]:
    """Whether the standby has replayed all that the primary wrote."""

    def look() -> bool:
        with psycopg.connect(original) as conn:
            found = conn.execute(
                "select replay_lsn >= pg_current_wal_lsn() from pg_stat_replication"
            ).fetchone()
            return found == (True,)

    return look


class TestPromotion:
    @pytest.fixture
    def standby(self, original, copier) -> LocalPostgres:
        server = copier.base_backup("-R", "-X", "stream")
        until(caught_up(original), what="the standby to catch up")
        return server

    def both(self, copier, standby) -> str:
        homes = f"{copier.original._home},{standby._home}"
        return f"postgresql://postgres@/postgres?host={homes}&port=5432,5432&target_session_attrs=read-write"

    def test_a_running_daemon_follows_it_and_sends_on(self, original, copier, standby, sink, daemon):
        running = sink()
        one = daemon(running.url, url=self.both(copier, standby))
        with psycopg.connect(original, autocommit=True) as conn:
            until(lambda: drained(conn), what="the queue to drain")
        until(caught_up(original), what="the standby to catch up")
        promoted(copier, standby)
        with psycopg.connect(standby.url, autocommit=True) as conn:
            insert_many(conn, 5)
            until(lambda: count(conn, "delivery") == 1 + WAITING + 5, within=30, what="the rest to be sent")
        assert only_once(running)["accepted"] == WAITING + 5
        assert "failover: the timeline rose" in one.log.read_text()

    @pytest.mark.usefixtures("original")
    def test_what_the_standby_had_goes_alone_under_its_own_key_and_new_mail_in_batches(
        self, copier, standby, sink, daemon
    ):
        """Any of it may have been asked for alone, in seconds that the standby lost."""
        promoted(copier, standby)
        running = sink()
        daemon(running.url, url=standby.url)
        with psycopg.connect(standby.url, autocommit=True) as conn:
            until(lambda: count(conn, "delivery") == 1 + WAITING, what="the old mail to be sent")
            insert_many(conn, WAITING)
            until(lambda: count(conn, "delivery") == 1 + 2 * WAITING, what="the new mail to be sent")
        sizes = [len(entry.uids) for entry in running.provider.entries]
        assert sizes[:WAITING] == [1] * WAITING
        assert min(sizes[WAITING:]) > 1

    def test_hold_keeps_what_had_fallen_due_until_adopted(self, copier, standby, sink, daemon):
        promoted(copier, standby)
        running = sink()
        one = daemon(running.url, url=standby.url, OUTBOXD_DATABASE__AFTER_FAILOVER="hold")
        with psycopg.connect(standby.url, autocommit=True) as conn:
            until(lambda: count(conn, "ready", "lane = -1000") == WAITING, what="the old mail to be held")
            insert(conn)
            until(lambda: count(conn, "delivery") == 2, what="the new email to be sent")
            assert only_once(running)["accepted"] == 1
            held = next(json.loads(line) for line in one.log.read_text().splitlines() if "failover" in line)
            assert held["held"] == WAITING
            assert f"released {WAITING}" in outboxd(standby.url, "adopt", "--pending=send")
            until(lambda: count(conn, "delivery") == 2 + WAITING, what="the held mail to be sent")

    def test_rule_9_the_timeline_is_the_new_one_at_once(self, original, copier, standby):
        """The control file names the old one until a checkpoint has written what was changed."""
        with psycopg.connect(original, autocommit=True) as conn:
            conn.execute(DIRT)
        until(caught_up(original), what="the standby to catch up")
        with psycopg.connect(standby.url, autocommit=True) as conn:
            fence = Fence("production", lambda: "re_test_0123456789", hold=False)
            assert whereabouts(conn, "production", "key") is None
            promoted(copier, standby)
            old = conn.execute("select timeline_id from pg_control_checkpoint()").fetchone()
            assert old == (1,), "the checkpoint was over too soon for this to show anything"
            assert whereabouts(conn, "production", "key").timeline == 2
            assert fence.admits(conn)
            assert conn.execute("select timeline from outboxd.instance").fetchone() == (2,)

    def test_a_standby_is_observed_and_not_written_to(self, standby, sink, daemon):
        one = daemon(sink().url, url=standby.url, wait=False)
        until(lambda: "the server is a standby" in one.log.read_text(), what="the daemon to notice")
        assert one.process.poll() is None
