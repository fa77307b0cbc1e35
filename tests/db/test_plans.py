"""The statements of the path on many rows: by index, in rows that the batch bounds, whatever the statistics say.

Four states of each: fresh statistics, those of an emptied table, a generic plan that was cached while the tables were
empty, and the same beside as many scheduled emails. A hundred thousand rows show in a plan what a million do; those
come in the long run.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from servers import fresh_database

from outboxd.db.query import query
from outboxd.db.session import path_settings

pytestmark = pytest.mark.xdist_group("plans")  # what is filled for all of them is filled once

LATER, SLOTS, DEAD, MEMBERS = (n * 10_000_000 for n in (1, 2, 3, 4))  # the first id of each other kind
BATCH = 100
STATES = ["cached", "stale", "fresh"]


@pytest.fixture(
    scope="module", params=[100_000, pytest.param(1_000_000, marks=pytest.mark.long)], ids="{:,}".format
)
def plans(
    request: pytest.FixtureRequest, server: str, template: str
) -> Iterator[dict[tuple[str, str], list[dict]]]:
    """The plan of each statement in each state, as run: {(statement, state): nodes}."""
    for url in fresh_database(server, template):
        with psycopg.connect(url, autocommit=True) as admin:
            for table in ("ready", "lease", "progress", "word"):
                admin.execute(f"alter table outboxd.{table} set (autovacuum_enabled = off)")
            admin.execute("analyze outboxd.ready")
            cached = {name: prepared_while_empty(url, name) for name in STATEMENTS}
            fill(admin, request.param)
            found = {(name, "cached"): run(conn, name) for name, conn in cached.items()}
            found |= {(name, "stale"): planned_now(url, name) for name in STATEMENTS}
            admin.execute("analyze outboxd.ready, outboxd.email, outboxd.lease")
            found |= {(name, "fresh"): planned_now(url, name) for name in STATEMENTS}
            for conn in cached.values():
                conn.close()
        yield found


def fill(admin: psycopg.Connection, rows: int) -> None:
    """Many due emails, as many scheduled ones beside them in the same slot, four small slots, one lease; and
    twenty claims' worth of dead letters and of batches' members, none of them claimed.
    """
    admin.execute("set session_replication_role = replica")
    admin.execute(
        "insert into outboxd.email (type, payload, queue, priority, recipients, tenant)"
        " select 'welcome', '{}', 'transactional', 1, array['a@d' || n %% 3 || '.example'], 't' || n %% 3"
        " from generate_series(1, %s) as n",
        (rows + BATCH,),
    )
    for first, count, priority, at in (
        (BATCH + 1, rows, "1", "clock_timestamp() - interval '1 h' + n * interval '1 ms'"),
        (LATER, rows, "1", "clock_timestamp() + interval '1 d' + n * interval '1 ms'"),
        (SLOTS, 4000, "2 + n % 4", "clock_timestamp()"),
    ):
        admin.execute(
            "insert into outboxd.ready (id, queue, lane, priority, scheduled_at)"
            f" select n, 1, 0, {priority}, {at} from generate_series({first}, {first + count - 1}) n"
        )
    admin.execute(
        "insert into outboxd.dead_letter (id, uid, certainty, queue, type, created_at, died_at, error_class, message, signature, attempts)"
        " select n, gen_random_uuid(), 'not_accepted', 'transactional', 'welcome', now(), now(), 'transient', '', '', 1"
        " from generate_series(%s, %s) n",
        (DEAD, DEAD + 20 * BATCH),
    )
    admin.execute(
        "insert into outboxd.batch_member (id, batch_uid, place)"
        " select n, gen_random_uuid(), 0 from generate_series(%s, %s) n",
        (MEMBERS, MEMBERS + 20 * BATCH),
    )
    admin.execute(
        "insert into outboxd.lease values (%s, %s, %s, %s, clock_timestamp(), clock_timestamp() - interval '1 s')",
        (LEASE, uuid4(), SETTLE["ids"], CLAIM["frozen"]),
    )
    admin.execute(
        "insert into outboxd.lease values (%s, %s, %s, %s, clock_timestamp(), clock_timestamp() + interval '1 h')",
        (READ_LEASE, uuid4(), list(range(BATCH + 1, 2 * BATCH + 1)), CLAIM["frozen"]),
    )


def prepared_while_empty(url: str, name: str) -> psycopg.Connection:
    """A connection with a generic plan that was made and used while there was nothing."""
    conn = psycopg.connect(url)
    conn.prepare_threshold = None
    conn.execute("set plan_cache_mode = force_generic_plan")
    conn.commit()
    path_settings(conn)
    prepare(conn, name)
    explain(conn, name)
    conn.rollback()
    return conn


def planned_now(url: str, name: str) -> list[dict]:
    with psycopg.connect(url) as conn:
        conn.prepare_threshold = None
        prepare(conn, name)
        return run(conn, name)


def run(conn: psycopg.Connection, name: str) -> list[dict]:
    path_settings(conn)
    nodes = explain(conn, name)
    conn.rollback()
    return nodes


CLAIM = {
    "queues": [1, 2, 3], "lanes": [0, 0, 0], "priorities": [1, 5, 10], "after_at": [datetime(1970, 1, 1, tzinfo=UTC)] * 3,
    "after_id": [0] * 3, "mosts": [None] * 3, "limit": BATCH, "lease_id": uuid4(), "worker": uuid4(),
    "frozen": json.dumps({"serialiser": 1, "tag": "t", "account": "a", "api_url": "u"}), "ttl": timedelta(seconds=60),
    "probed_kind": None, "now": None,
}  # fmt: skip
LEASE, READ_LEASE = uuid4(), uuid4()
SETTLE = {
    "lease_ids": [LEASE] * BATCH, "ids": list(range(1, BATCH + 1)), "steps": ["sent", "again", "dead", "unknown"] * 25,
    "provider_ids": ["re_1"] * BATCH, "due_in": [5.0] * BATCH, "attempts": [1] * BATCH, "ambiguous": [True] * BATCH,
    "transient": [True] * BATCH, "asked_ago": [0.1] * BATCH, "queues": [1] * BATCH, "lanes": [0] * BATCH,
    "priorities": [1] * BATCH, "failures": [json.dumps({"kind": "transient", "message": "m"})] * BATCH, "now": None,
    "batches": [None] * BATCH, "leads": [True] * BATCH, "rejected": [False] * BATCH, "first_asked_at": [None] * BATCH,
    "first_failed_at": [None] * BATCH, "undecided": [False] * BATCH, "places": [None] * BATCH, "leases": [LEASE],
    "first": 1, "last": BATCH,
}  # fmt: skip
PARK = {
    "queue": 1, "priority": 1, "after_at": datetime(1970, 1, 1, tzinfo=UTC), "after_id": 0, "limit": BATCH,
}  # fmt: skip


READ = {"lease_id": READ_LEASE, "first": BATCH + 1, "last": 2 * BATCH}
STATEMENTS = {
    "lease/claim": CLAIM,
    "lease/read": READ,
    "ready/slots": {"now": None, "account": "default", "probed_kind": None, "probed_key": None},
    "ready/park": PARK
    | {
        "from_lane": 0,
        "kind": "provider",
        "key": "d1.example",
        "lane": 77,
        "paused": False,
        "others": False,
        "upto": None,
    },
    "ready/part": PARK | {"few": 20},
    "lease/settle": SETTLE,
    "lease/reclaim": {"lease_ids": [LEASE], "crash_limit": 3, "now": None},
}


def numbered(statement: str, values: dict) -> tuple[str, list]:
    """The statement with $1, $2, … as the driver sends it, and the values in that order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", number, statement).replace("%%", "%")
    return text, [values[name] for name in names]


def prepare(conn: psycopg.Connection, name: str) -> None:
    text, _ = numbered(query(name), STATEMENTS[name])
    conn.execute(sql.SQL("prepare planned as {}").format(sql.SQL(text)))


def explain(conn: psycopg.Connection, name: str) -> list[dict]:
    """Run the prepared statement; every node of its plan, the root first."""
    _, ordered = numbered(query(name), STATEMENTS[name])
    call = sql.SQL("explain (analyze, buffers, format json) execute planned({})").format(
        sql.SQL(", ").join(map(sql.Literal, ordered))
    )
    (plan,) = conn.execute(call).fetchone()
    return list(walk(plan[0]["Plan"]))


def walk(node: dict) -> Iterator[dict]:
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)


BIG = re.compile(r"^(ready|email_p|delivery_p|attempt_p|progress|dead_letter|batch_member)")


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


@pytest.mark.parametrize("state", STATES)
def test_a_claim_reads_rows_in_proportion_to_its_batch(plans, state):
    nodes = plans["lease/claim", state]
    assert nodes[0]["Actual Rows"] == BATCH
    assert_bounded(nodes, buffers=80 * BATCH)


@pytest.mark.parametrize("state", STATES)
def test_what_was_claimed_is_read_in_rows_and_partitions_that_its_ids_bound(plans, state):
    nodes = plans["lease/read", state]
    assert nodes[0]["Actual Rows"] == BATCH
    assert_bounded(nodes, buffers=40 * BATCH)
    opened = {node["Relation Name"] for node in nodes if node.get("Relation Name", "").startswith("email_")}
    assert opened == {"email_p000000"}


@pytest.mark.parametrize("state", STATES)
def test_a_claim_has_its_instant_in_the_index_condition(plans, state):
    scans = [node for node in plans["lease/claim", state] if node.get("Index Name") == "ready_claim"]
    assert scans
    assert all("scheduled_at <=" in node["Index Cond"] for node in scans)


@pytest.mark.parametrize("state", STATES)
def test_finding_the_slots_costs_one_descent_each(plans, state):
    nodes = plans["ready/slots", state]
    assert nodes[0]["Actual Rows"] == 5
    assert_bounded(nodes, buffers=100)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", ["ready/park", "ready/part"])
def test_parking_reads_rows_in_proportion_to_how_far_it_looks(plans, name, state):
    nodes = plans[name, state]
    assert nodes[0]["Actual Rows"] == 1
    (moved,) = [
        node for node in nodes if node["Node Type"] == "ModifyTable" and node["Relation Name"] == "ready"
    ]
    assert moved["Actual Loops"] == 1
    assert_bounded(nodes, buffers=80 * BATCH)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", ["lease/settle", "lease/reclaim"])
def test_settle_and_reclaim_read_rows_in_proportion_to_their_batch(plans, name, state):
    nodes = plans[name, state]
    assert nodes[0]["Actual Rows"] == BATCH
    assert_bounded(nodes, buffers=300 * BATCH)


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
