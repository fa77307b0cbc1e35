"""The whole path with least rights: one role migrates, one inserts, one runs the daemon."""

from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest
from conftest_path import count, drained, only_once
from factories import insert_many, payload
from waiting import until

from outboxd import enqueue
from outboxd.checkup import findings
from outboxd.config import load

LOGINS = {"outboxd_test_app": "outboxd_app", "outboxd_test_daemon": "outboxd_daemon"}


@pytest.fixture
def as_login(database, conn):
    """The database's URL for a login role that is a member of one of ours, and nothing else."""
    for login, group in LOGINS.items():
        if conn.execute("select to_regrole(%s)", (login,)).fetchone() == (None,):
            conn.execute(f"create role {login} login password 'secret' in role {group}")

    def url(login: str) -> str:
        parts = urlsplit(database)
        return urlunsplit(parts._replace(netloc=f"{quote(login)}:secret@{parts.netloc.rpartition('@')[2]}"))

    return url


def test_migrated_by_the_owner_inserted_by_the_application_sent_by_the_daemon(conn, as_login, sink, daemon):
    running = sink()
    conn.execute("select setval('outboxd.email_id_seq', 25000000)")  # beyond the partitions that there are
    one = daemon(running.url, url=as_login("outboxd_test_daemon"))
    until(lambda: "made partitions" in one.log.read_text(), what="partitions")
    with psycopg.connect(as_login("outboxd_test_app"), autocommit=True) as app:
        insert_many(app, 300)
        for number in range(3):
            enqueue(app, payload(to="fault+500.1@example.org"), type="reset", dedupe_key=str(number))
        insert_many(app, 200)
    until(lambda: drained(conn) and count(conn, "delivery") == 503, within=60, what="all to be sent")
    assert only_once(running)["accepted"] == 503
    assert one.terminate() == 0
    assert "permission denied" not in one.log.read_text()


def test_check_finds_nothing_amiss_for_the_daemons_role(as_login, sink, conn):
    conn.execute("select outboxd.pause('queue', 'marketing', 'why')")
    environ = {
        "DATABASE_URL": as_login("outboxd_test_daemon"), "RESEND_API_KEY": "re_x", "RESEND_API_URL": sink().url,
    }  # fmt: skip
    found = {one.name: one.grade for one in findings(load(None, environ))}
    assert found.pop("pauses") == "note"
    assert len(found) == 10
    assert set(found.values()) == {"ok"}


def test_the_daemons_role_may_not_do_more(as_login):
    with psycopg.connect(as_login("outboxd_test_daemon"), autocommit=True) as role:
        for statement in (
            "delete from outboxd.email",
            "create table outboxd.mine (a int)",
            "set role outboxd_owner",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                role.execute(statement)
