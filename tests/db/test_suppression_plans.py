"""The suppression gate on a long list: by index, one descent per recipient, whatever the statistics say."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from servers import fresh_database
from test_plans import numbered, walk

from outboxd.db.query import query
from outboxd.db.session import path_settings

pytestmark = pytest.mark.xdist_group("suppression_plans")  # what is filled for all of them is filled once

SUPPRESSED = 200_000
EMAILS = 50_000
BATCH = 100
RECIPIENTS = 2
STATES = ["cached", "stale", "fresh"]
GATE = {"ids": list(range(1, 10 * BATCH, 10)), "now": None}


@pytest.fixture(scope="module")
def plans(server: str, template: str) -> Iterator[dict[str, list[dict]]]:
    """The gate's plan, as run, in each state: made while all was empty; of an empty table's statistics; of fresh ones."""
    for url in fresh_database(server, template):
        with psycopg.connect(url, autocommit=True) as admin, psycopg.connect(url) as cached:
            admin.execute("alter table outboxd.suppression set (autovacuum_enabled = off)")
            admin.execute("analyze outboxd.suppression")
            prepare(cached)
            explain(cached)
            fill(admin)
            found = {"cached": explain(cached), "stale": planned_now(url)}
            admin.execute("analyze outboxd.suppression, outboxd.email, outboxd.secret")
            found["fresh"] = planned_now(url)
        yield found


def fill(admin: psycopg.Connection) -> None:
    admin.execute("set session_replication_role = replica")
    admin.execute(
        "insert into outboxd.email (type, payload, queue, priority, recipients)"
        " select 'welcome', '{}', 'transactional', 1, array['user' || n || '@example.org', 'free' || n || '@example.org']"
        " from generate_series(1, %s) as n",
        (EMAILS,),
    )
    admin.execute(
        "insert into outboxd.suppression (address_hash, scope, reason, source)"
        " select outboxd.keyed_hash('user' || n || '@example.org', inner_pad, outer_pad), scope, 'admin', 'test'"
        " from outboxd.secret, generate_series(1, %s) as n, unnest(array['all', 'newsletter']) as scope",
        (SUPPRESSED // 2,),
    )


def prepare(conn: psycopg.Connection) -> None:
    conn.prepare_threshold = None
    text, _ = numbered(query("suppression/among"), GATE)
    path_settings(conn)
    conn.execute(sql.SQL("prepare planned as {}").format(sql.SQL(text)))
    conn.commit()


def explain(conn: psycopg.Connection) -> list[dict]:
    path_settings(conn)
    _, ordered = numbered(query("suppression/among"), GATE)
    values = sql.SQL(", ").join(map(sql.Literal, ordered))
    (plan,) = conn.execute(
        sql.SQL("explain (analyze, buffers, format json) execute planned({})").format(values)
    ).fetchone()
    conn.rollback()
    return list(walk(plan[0]["Plan"]))


def planned_now(url: str) -> list[dict]:
    with psycopg.connect(url) as conn:
        prepare(conn)
        return explain(conn)


@pytest.mark.parametrize("state", STATES)
def test_the_gate_descends_the_key_once_per_recipient(plans, state):
    nodes = plans[state]
    assert nodes[0]["Actual Rows"] == BATCH
    scans = [node for node in nodes if node.get("Relation Name") == "suppression"]
    assert [node["Node Type"] for node in scans] in (["Index Scan"], ["Bitmap Heap Scan"])
    (descent,) = [node for node in nodes if node.get("Index Name") == "suppression_pkey"]
    assert descent["Index Cond"].startswith("(address_hash = ")
    assert "scope" not in descent["Index Cond"]
    assert "keyed_hash" not in descent["Index Cond"], "the hash is not put in line"
    assert descent["Actual Loops"] == BATCH * RECIPIENTS


@pytest.mark.parametrize("state", STATES)
def test_the_gate_finds_emails_by_their_key(plans, state):
    for node in plans[state]:
        if node.get("Relation Name", "").startswith("email"):
            assert node["Node Type"] == "Index Scan"
            assert node["Actual Rows"] * node["Actual Loops"] <= BATCH
    root = plans[state][0]
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] <= 20 * BATCH
