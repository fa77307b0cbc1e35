"""The statements of the path on a million rows: by index, in rows that the batch bounds, whatever the statistics say.

Four states of each: fresh statistics, those of an emptied table, a generic plan that was cached while the tables were
empty, and the same beside a million scheduled emails.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from conftest import fresh_database

from psycopg import sql

from outboxd.db.query import query
from outboxd.db.session import path_settings

MILLION = 1_000_000
BATCH = 100
DUE, LATER = (
    "clock_timestamp() - interval '1 h' + n * interval '1 ms'",
    "clock_timestamp() + interval '1 d' + n * interval '1 ms'",
)


@pytest.fixture(scope="module")
def many(server: str, template: str) -> Iterator[str]:
    """A database with a million emails, prepared so that each test can choose what lies in ready."""
    for url in fresh_database(server, template):
        with psycopg.connect(url, autocommit=True) as conn:
            for table in ("ready", "lease", "progress", "word"):
                conn.execute(f"alter table outboxd.{table} set (autovacuum_enabled = off)")
            conn.execute("set session_replication_role = replica")
            conn.execute("drop index outboxd.email_recipients")
            conn.execute(
                "insert into outboxd.email (type, payload, queue, priority, recipients)"
                " select 'welcome', '{}', 'transactional', 1, '{}' from generate_series(1, %s)",
                (MILLION - 1,),
            )
            conn.execute(
                "insert into outboxd.delivery (id, state, queue, attempts) select n, 'sent', 1, 1 from generate_series(900000, 990000) n"
            )
            conn.execute("delete from outboxd.email where id between 900000 and 990000")
        yield url


@pytest.fixture
def path(many: str) -> Iterator[psycopg.Connection]:
    """A connection whose work is rolled back."""
    with psycopg.connect(many) as conn:
        yield conn
        conn.rollback()


def fill(conn: psycopg.Connection, at: str, *, lane: int = 0, first: int = 1, count: int = 899_999) -> None:
    conn.execute(
        f"insert into outboxd.ready (id, queue, lane, priority, scheduled_at)"
        f" select n, 1, {lane}, 1, {at} from generate_series(%s, %s) n",
        (first, first + count - 1),
    )


CLAIM = {
    "queues": [1, 2, 3], "lanes": [0, 0, 0], "priorities": [1, 5, 10], "after_at": [datetime(1970, 1, 1, tzinfo=UTC)] * 3,
    "after_id": [0] * 3, "limit": BATCH, "lease_id": uuid4(), "worker": uuid4(),
    "frozen": json.dumps({"serialiser": 1, "tag": "t", "account": "a", "api_url": "u"}), "ttl": timedelta(seconds=60),
    "now": None,
}  # fmt: skip
LEASE = uuid4()
SETTLE = {
    "lease_ids": [LEASE] * BATCH, "ids": list(range(1, BATCH + 1)), "steps": ["sent", "again", "dead", "unknown"] * 25,
    "provider_ids": ["re_1"] * BATCH, "due_in": [5.0] * BATCH, "attempts": [1] * BATCH, "ambiguous": [True] * BATCH,
    "transient": [True] * BATCH, "asked_ago": [0.1] * BATCH, "queues": [1] * BATCH, "lanes": [0] * BATCH,
    "priorities": [1] * BATCH, "failures": [json.dumps({"kind": "transient", "message": "m"})] * BATCH, "now": None,
}  # fmt: skip


def numbered(statement: str, values: dict) -> tuple[str, list]:
    """The statement with $1, $2, … as the driver sends it, and the values in that order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", number, statement).replace("%%", "%")
    return text, [values[name] for name in names]


def prepare(conn: psycopg.Connection, name: str, values: dict) -> list:
    text, ordered = numbered(query(name), values)
    conn.execute(sql.SQL("prepare planned as {}").format(sql.SQL(text)))
    return ordered


def explain(conn: psycopg.Connection, ordered: list) -> list[dict]:
    """Run the prepared statement; every node of its plan."""
    call = sql.SQL("explain (analyze, buffers, format json) execute planned({})").format(
        sql.SQL(", ").join(map(sql.Literal, ordered))
    )
    (plan,) = conn.execute(call).fetchone()
    nodes: list[dict] = []

    def walk(node: dict) -> None:
        nodes.append(node)
        for child in node.get("Plans", []):
            walk(child)

    walk(plan[0]["Plan"])
    return nodes


BIG = re.compile(r"^(ready|email_p|delivery_p|attempt_p|progress|dead_letter)")


def assert_bounded(nodes: list[dict], *, buffers: int) -> None:
    for node in nodes:
        relation = node.get("Relation Name", "")
        touched = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        if BIG.match(relation):
            assert node["Node Type"] != "Seq Scan" or node["Actual Loops"] == 0, (node["Node Type"], relation)
            assert touched <= 4 * BATCH, (node["Node Type"], relation, touched)
        assert node["Node Type"] != "Sort" or touched <= BATCH, ("Sort", touched)
    root = nodes[0]
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] <= buffers, root["Shared Hit Blocks"]


def arrange(conn: psycopg.Connection, state: str, name: str, values: dict, fill_ready) -> list:
    """Bring the tables, their statistics and the plan into one of the states; the values to execute with."""
    if state == "stale":
        fill(conn, DUE)
        conn.execute("delete from outboxd.ready")
        conn.execute("analyze outboxd.ready")
    path_settings(conn)
    if state == "cached":
        conn.execute("set local plan_cache_mode = force_generic_plan")
        ordered = prepare(conn, name, values)
        conn.execute("savepoint empty")
        explain(conn, ordered)
        conn.execute("rollback to empty")
        fill_ready(conn)
        return ordered
    fill_ready(conn)
    if state == "fresh":
        conn.execute("analyze outboxd.ready")
    return prepare(conn, name, values)


STATES = ["fresh", "stale", "cached"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("beside", ["due", "scheduled"])
def test_a_claim_reads_rows_in_proportion_to_its_batch(path, state, beside):
    def fill_ready(conn: psycopg.Connection) -> None:
        if beside == "due":
            fill(conn, DUE)
        else:
            fill(conn, LATER, first=1001, count=890_000)
            fill(conn, DUE, count=1000)

    ordered = arrange(path, state, "lease/claim", CLAIM, fill_ready)
    nodes = explain(path, ordered)
    assert nodes[0]["Actual Rows"] == BATCH
    assert_bounded(nodes, buffers=60 * BATCH)


@pytest.mark.parametrize("state", STATES)
def test_a_claim_has_its_instant_in_the_index_condition(path, state):
    nodes = explain(path, arrange(path, state, "lease/claim", CLAIM, lambda conn: fill(conn, DUE)))
    scans = [node for node in nodes if node.get("Index Name") == "ready_claim"]
    assert scans
    assert all("scheduled_at <=" in node["Index Cond"] for node in scans)


@pytest.mark.parametrize("state", STATES)
def test_finding_the_slots_costs_one_descent_each(path, state):
    def fill_ready(conn: psycopg.Connection) -> None:
        fill(conn, DUE)
        conn.execute("update outboxd.ready set priority = 1 + id % 5 where id <= 5000")

    nodes = explain(path, arrange(path, state, "ready/slots", {"now": None}, fill_ready))
    assert nodes[0]["Actual Rows"] == 5
    assert nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"] <= 400


def lease_of(conn: psycopg.Connection, *, expired: bool) -> None:
    conn.execute(
        "insert into outboxd.lease values (%s, %s, %s, %s, clock_timestamp(), clock_timestamp() + %s::interval)",
        (LEASE, uuid4(), SETTLE["ids"], CLAIM["frozen"], "-1 s" if expired else "60 s"),
    )


@pytest.mark.parametrize("state", STATES)
def test_a_settle_reads_rows_in_proportion_to_its_batch(path, state):
    def fill_ready(conn: psycopg.Connection) -> None:
        fill(conn, DUE, first=BATCH + 1, count=890_000)
        lease_of(conn, expired=False)

    nodes = explain(path, arrange(path, state, "lease/settle", SETTLE, fill_ready))
    assert nodes[0]["Actual Rows"] == BATCH
    assert_bounded(nodes, buffers=200 * BATCH)


@pytest.mark.parametrize("state", STATES)
def test_a_reclaim_reads_rows_in_proportion_to_its_batch(path, state):
    def fill_ready(conn: psycopg.Connection) -> None:
        fill(conn, DUE, first=BATCH + 1, count=890_000)
        lease_of(conn, expired=True)

    values = {"lease_ids": [LEASE], "crash_limit": 3, "now": None}
    nodes = explain(path, arrange(path, state, "lease/reclaim", values, fill_ready))
    assert nodes[0]["Actual Rows"] == BATCH
    assert_bounded(nodes, buffers=200 * BATCH)


def test_every_query_can_be_planned(conn):
    from importlib.resources import files

    root = files("outboxd.sql") / "queries"
    names = [
        f"{noun.name}/{verb.name.removesuffix('.sql')}" for noun in root.iterdir() for verb in noun.iterdir()
    ]
    assert len(names) > 20
    for number, name in enumerate(sorted(names)):
        text, _ = numbered(query(name), dict.fromkeys(re.findall(r"%\((\w+)\)s", query(name))))
        conn.execute(sql.SQL("prepare {} as {}").format(sql.Identifier(f"q{number}"), sql.SQL(text)))
