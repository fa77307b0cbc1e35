"""The proxy before Postgres knows when a claim or a settle commits: there the storms kill."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from factories import claim, insert, insert_many, settle
from psycopg.conninfo import conninfo_to_dict
from waiting import until

from outboxd.core.outcome import Sent
from outboxd.db.session import Connection, connect

from .daemons import tcp_url
from .proxy import Proxies

CLAIMED = ["claim_before_commit", "claim_commit_unanswered", "claim_done"]


@contextmanager
def watched(database: str, name: str, *, kill: str = "") -> Iterator[tuple[Connection, list[str]]]:
    """A connection of the path through a proxy, and the points that it came to. It is cut at `kill`."""
    known = {key: str(value) for key, value in conninfo_to_dict(database).items()}
    port = int(known.get("port", 5432))
    met: list[str] = []

    def on_point(point: str) -> bool:
        met.append(point)
        return point == kill

    target = f"{known['host']}/.s.PGSQL.{port}" if known["host"].startswith("/") else (known["host"], port)
    proxies = Proxies(1)
    try:
        gate = proxies.gate("pg", target, on_point)
        with connect(
            tcp_url(gate.port, known["dbname"], known["user"], named=False), name, path=True
        ) as conn:
            met.clear()
            yield conn, met
    finally:
        proxies.close()


def test_a_claim_of_single_emails_commits_at_the_end_of_its_pipeline(database, conn):
    insert_many(conn, 3)
    with watched(database, "claimer") as (claimer, met):
        for _ in range(3):  # from the second on its statement has a name
            met.clear()
            assert claim(claimer, limit=1)
            until(lambda: met == CLAIMED, within=5, what="all points of a claim")


def test_a_claim_that_finds_nothing_has_no_answer_to_lose(database):
    with watched(database, "claimer") as (claimer, met):
        assert not claim(claimer)
        claimer.execute("select 1")
        assert met == CLAIMED[:1]


def test_what_a_claimer_only_looks_at_is_no_claim(database):
    with watched(database, "claimer") as (claimer, met):
        with claimer.transaction():
            claimer.execute("select 1")
        claimer.execute("select 1")
        assert met == []


def test_a_settle_commits_with_a_word(database, conn):
    insert(conn)
    (email,) = claim(conn)
    with watched(database, "settler") as (settler, met):
        settle(settler, (email, Sent("re_1")))
        until(lambda: "settle_done" in met, within=5, what="the end of a settle")
    commits = [point for point in met if point != "settle_begins"]
    assert commits[:3] == ["settle_before_commit", "settle_commit_unanswered", "settle_done"]


@pytest.mark.parametrize("kill", CLAIMED[:2])
def test_a_claim_that_is_cut_has_happened_if_its_commit_had_passed(database, conn, kill):
    insert(conn)
    with watched(database, "claimer", kill=kill) as (claimer, _):
        with pytest.raises(psycopg.OperationalError):
            claim(claimer)
        claimer.close()
    leased = conn.execute("select count(*) from outboxd.lease").fetchone()[0]
    assert leased == (kill == "claim_commit_unanswered")
