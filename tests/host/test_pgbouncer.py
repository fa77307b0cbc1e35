"""Behind pgbouncer in transaction mode: nothing that belongs to a session is used, and the whole path works."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from factories import claim, insert, settle
from needs import needs
from pooler import Pooler
from waiting import until

from outboxd.core.outcome import Sent
from outboxd.db import probe
from outboxd.db.migrate import migrate
from outboxd.db.session import connect as open_connection
from outboxd.db.session import pooled
from outboxd.db.wake import Doorbell

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pooler(server: str) -> Iterator[Pooler]:
    needs("pgbouncer")
    made = Pooler(server)
    yield made
    made.close()


def test_the_path_suite_is_green_through_it_but_for_what_is_slow(request):
    needs("pgbouncer")
    options = [
        f"--pg={request.config.getoption('--pg')}",
        f"--pg-version={request.config.getoption('--pg-version')}",
        "-m",
        "not bench and not host and not long and not faults and not slow",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "tests/path", "--via-pgbouncer", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


def test_it_is_noticed_and_a_direct_connection_is_not_taken_for_one(pooler, database):
    with (
        open_connection(database, "test") as direct,
        open_connection(pooler.url(database), "test") as through,
    ):
        assert not pooled(direct)
        assert pooled(through)
        assert through.prepare_threshold is None
    assert probe.facts(pooler.url(database)).pooled


def test_nothing_is_prepared_by_name_on_its_backends(pooler, database, conn):
    with (
        open_connection(pooler.url(database), "test") as one,
        open_connection(pooler.url(database), "test") as other,
    ):
        for _ in range(20):
            insert(conn)
            (email,) = claim(one)
            settle(other, (email, Sent("re_1")))
        for _ in range(5):
            assert one.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)


def test_settings_of_one_transaction_are_not_seen_by_the_next(pooler, database):
    with open_connection(pooler.url(database), "test") as one:
        claim(one)
        assert one.execute("show plan_cache_mode").fetchone() == ("auto",)
        assert one.execute("show enable_seqscan").fetchone() == ("on",)


def test_the_listener_takes_no_lock_and_listens_to_nothing_there(pooler, database, conn, caplog):
    stop = threading.Event()
    bell = Doorbell(pooler.url(database), stop=stop)
    thread = threading.Thread(target=bell.listen)
    with caplog.at_level(logging.WARNING):
        thread.start()
        until(lambda: "pooler" in caplog.text, what="the listener to notice")
    assert not bell.arm()
    held = "select count(*) from pg_locks where locktype = 'advisory'"
    assert conn.execute(held).fetchone() == (0,)
    with psycopg.connect(pooler.url(database), autocommit=True) as through:
        assert through.execute("select count(*) from pg_listening_channels()").fetchone() == (0,)
    stop.set()
    bell.close()
    thread.join(10)
    assert not thread.is_alive()


def test_new_mail_is_found_by_polling_and_a_direct_listen_url_rings(pooler, database, conn, sink, daemon):
    running = sink()
    url = pooler.url(database)
    log = daemon(running.url, DATABASE_URL=url).log
    insert(conn)
    until(lambda: len(running.provider.entries) == 1, within=5, what="the poll to find it")
    assert "the listener goes through a pooler" in log.read_text()
    direct = daemon(running.url, DATABASE_URL=url, OUTBOXD_DATABASE__LISTEN_URL=database).log
    until(
        lambda: conn.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone() == (1,),
        what="the bell to be armed",
    )
    assert "pooler" not in direct.read_text()


def test_it_migrates_through_it(pooler, empty_database):
    for _ in range(3):
        migrate(pooler.url(empty_database))
