"""A session's connection comes back, also where what came over it was not Postgres's protocol."""

import threading
from contextlib import closing

import psycopg
import pytest
from stalling import StallingProxy

from outboxd.db.session import ConnectionLostError, Session, connect

NO_MESSAGE = (
    b"\xff\x00\x00\x00\x08junk"  # of a type that libpq does not know: it skips it, and reports no SQLSTATE
)


@pytest.fixture
def garbling(conn):
    proxy = StallingProxy(conn.info.host, conn.info.port, cut_at=b"pg_backend_pid", garbage=NO_MESSAGE)
    yield proxy
    proxy.close()


def backend(mine: psycopg.Connection) -> int:
    return mine.execute("select pg_backend_pid()").fetchone()[0]


@pytest.mark.parametrize("path", [False, True])
def test_garbage_for_the_first_answer_is_no_connection_and_it_tries_again(database, garbling, path):
    session = Session(garbling.url(database), "test", stop=threading.Event(), path=path)
    garbling.cuts_left = 2
    assert session.run(lambda mine: mine.execute("select 17").fetchone()) == (17,)
    assert garbling.cuts_left == 0
    session.close()


def test_garbage_for_the_first_answer_is_an_operational_error_to_commands(database, garbling):
    garbling.cuts_left = 1
    with pytest.raises(psycopg.OperationalError, match="unexpected response from server"):
        connect(garbling.url(database), "test")


def test_after_garbage_for_an_answer_nothing_more_is_asked_over_this_connection(database, garbling):
    session = Session(garbling.url(database), "test", stop=threading.Event())
    before = session.run(backend)
    garbling.cuts_left = 1
    with pytest.raises(ConnectionLostError):
        session.run(backend)
    assert session.run(backend) != before
    session.close()


def test_what_postgres_refuses_is_no_lost_connection(database):
    session = Session(database, "test", stop=threading.Event())
    before = session.run(backend)
    with pytest.raises(psycopg.errors.DivisionByZero):
        session.run(lambda mine: mine.execute("select 1 / 0"))
    assert session.run(backend) == before
    session.close()


def test_what_a_daemon_was_sending_as_it_was_cut_off_holds_its_locks_for_6_s_at_most(conn, database):
    """The server waits for the rest of a pipeline; an idle transaction's time-out does not count there (Postgres 17)."""
    if conn.info.server_version < 170000:
        pytest.skip("before Postgres 17 only keepalives end it")
    with closing(Session(database, "settler", stop=threading.Event(), path=True)) as session:
        mine = session.connection().pgconn
        mine.enter_pipeline_mode()
        mine.send_query_params(b"select pg_advisory_xact_lock(17)", None)
        mine.send_flush_request()
        mine.flush()
        mine.get_result()
        conn.execute("set lock_timeout = '7s'")
        conn.execute("select pg_advisory_xact_lock(17)")
