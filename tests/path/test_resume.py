"""A pause holds what it names through restarts, and its end is heard at once, whoever or whatever ends it."""

import time
from datetime import datetime, timedelta

import pytest
from click.testing import CliRunner
from conftest_path import count, only_once
from factories import insert, payload, uid_of
from ledger import asked
from waiting import until

from outboxd.cli.queues import queues

pytestmark = [pytest.mark.path, pytest.mark.slow]
SOON = 2.0  # seconds; a second, and what a busy machine takes
KINDS = {
    "queue": ("system", {"queue": "system"}),
    "type": ("digest", {"type": "digest"}),
    "campaign": ("spring", {"campaign": "spring"}),
    "provider": ("paused.example", {"body": payload(to="ada@paused.example")}),
}


def accepted(running, uid: str) -> float | None:
    """When this email was asked for, in Unix seconds."""
    return next((entry.at for entry in asked(running) if uid in entry.uids), None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pause_holds_what_it_names_and_nothing_else_through_a_restart_until_it_is_resumed(
    conn, sink, daemon, kind
):
    key, columns = KINDS[kind]
    running = sink()
    conn.execute("select outboxd.pause(%s, %s, 'wrong text')", (kind, key))
    held, other = (str(uid_of(conn, id_)) for id_ in (insert(conn, **columns), insert(conn)))
    first = daemon(running.url)
    until(lambda: accepted(running, other), what="the other to go")
    until(lambda: count(conn, "lease") == 0 and count(conn, "ready") == 1, what="the held one to be back")
    first.terminate()
    daemon(running.url)
    late = str(uid_of(conn, insert(conn)))
    until(lambda: accepted(running, late), what="another one to go")
    assert accepted(running, held) is None
    assert conn.execute("select count(*) from outboxd.progress where attempts > 0").fetchone() == (0,)
    conn.execute("select outboxd.resume(%s, %s)", (kind, key))
    resumed = time.time()
    until(lambda: accepted(running, held), what="the held one to go")
    assert accepted(running, held) - resumed <= SOON
    only_once(running)


def by_function(conn, _database: str) -> None:
    conn.execute("select outboxd.resume('queue', 'system')")


def by_command(_conn, database: str) -> None:
    assert CliRunner().invoke(queues, ["resume", "system"], env={"DATABASE_URL": database}).exit_code == 0


def as_a_probe_does(conn, _database: str) -> None:
    conn.execute("delete from outboxd.pause")


def by_itself(conn, _database: str) -> None:
    (at,) = conn.execute("select until from outboxd.pause").fetchone()
    until(lambda: datetime.now(tz=at.tzinfo) >= at, what="the pause to end")


@pytest.mark.parametrize("end", [by_function, by_command, as_a_probe_does, by_itself])
def test_the_end_of_a_pause_wakes_an_idle_daemon_at_once(database, conn, sink, daemon, end):
    running = sink()
    daemon(running.url, OUTBOXD_DATABASE__LISTEN_URL=database)
    for _ in range(3):
        lasts = timedelta(seconds=1.5) if end is by_itself else None
        conn.execute(
            "select outboxd.pause('queue', 'system', 'x', clock_timestamp() + %s::interval)", (lasts,)
        )
        uid = str(uid_of(conn, insert(conn, queue="system")))
        until(lambda: asleep(conn), what="the daemon to sleep")
        assert accepted(running, uid) is None
        end(conn, database)
        ended = time.time()
        until(lambda: accepted(running, uid), what="the email to go")  # noqa: B023
        assert accepted(running, uid) - ended <= SOON


def asleep(conn) -> bool:
    """Whether the doorbell's key is held, and nothing is in hand."""
    row = conn.execute(
        "select count(*) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and classid = 7101"
        " and database = (select oid from pg_database where datname = current_database())"
    ).fetchone()
    return row[0] > 0 and count(conn, "lease") == 0
