"""Asking for limits, giving back and pruning beside hundreds of thousands of counts: by index, bounded by the batch.

The statements inside the functions are seen through auto_explain. Three states of each: a generic plan that was made
while the tables were empty, statistics of empty tables, and fresh ones.
"""

import json
from collections.abc import Iterator
from datetime import datetime

import psycopg
import pytest
from limiting import DAY, HOUR, MINUTE, NOON, columns, columns_back, subject
from servers import fresh_database

from outboxd.core.limits import Limit
from outboxd.db import limit
from outboxd.db.session import path_settings

pytestmark = pytest.mark.xdist_group("limits_plans")  # what is filled for all of them is filled once

MAILBOXES, WINDOWS, BATCH = 200_000, 50_000, 100
LIMITS = (
    Limit("recipient", None, 3, HOUR),
    Limit("provider_minute", None, 100, MINUTE),
    Limit("provider_day", None, 10_000, DAY),
)
STATES = ["cached", "stale", "fresh"]
COUNTS = {"recipient_count", "window_count", "domain_mx"}


def emails(first: int, granted_at: datetime | None = None) -> list:
    """Half of them known mailboxes of known domains, a third of the domains shared by ten emails."""
    return [
        subject(10**7 + n, f"u{n % 2 * 10**6 + n}@d{n if n % 3 else n // 10}.example", granted_at=granted_at)
        for n in range(first, first + BATCH)
    ]


def ask_for(conn: psycopg.Connection, first: int) -> datetime:
    verdicts = limit.grant(conn, columns(emails(first), LIMITS))
    assert all(verdict.granted for verdict in verdicts)
    return verdicts[0].granted_at


def everything(conn: psycopg.Connection, first: int) -> None:
    """Ask, ask again in hand, give back; in one transaction of the path."""
    with conn.transaction():
        path_settings(conn)
        at = ask_for(conn, first)
        limit.grant(conn, columns(emails(first, at), LIMITS))
        assert limit.give_back(conn, columns_back(emails(first, at), LIMITS)) == BATCH


@pytest.fixture(scope="module")
def plans(server: str, template: str) -> Iterator[dict[str, list[dict]]]:
    for url in fresh_database(server, template):
        with psycopg.connect(url, autocommit=True) as admin:
            for table in ("recipient_count", "window_count"):
                admin.execute(f"alter table outboxd.{table} set (autovacuum_enabled = off)")
            admin.execute("analyze outboxd.recipient_count, outboxd.window_count")
            with psycopg.connect(url, autocommit=True) as cached:
                everything(cached, 0)
                fill(admin)
                found = {"cached": watched(cached, 1000)}
                found["stale"] = on_a_new_connection(url, 2000)
                admin.execute("analyze outboxd.recipient_count, outboxd.window_count")
                found["fresh"] = on_a_new_connection(url, 3000)
        yield found


def fill(admin: psycopg.Connection) -> None:
    admin.execute(
        "insert into outboxd.recipient_count (key, emails, at, per, stale_at)"
        " select outboxd.recipient_key('u' || n || '@d' || n || '.example'), array[n], array[clock_timestamp()], '1 h',"
        " clock_timestamp() + case n %% 2 when 0 then interval '1 h' else interval '-1 h' end"
        " from generate_series(1000, %s) n",
        (MAILBOXES,),
    )
    admin.execute(
        "insert into outboxd.window_count (kind, key, at, n, per, stale_at)"
        " select kind, 'd' || n || '.example', array(select clock_timestamp() + g * interval '1 us' from generate_series(1, 40) g),"
        " array_fill(1, array[40]), '1 min', clock_timestamp() + interval '1 h'"
        " from generate_series(1000, %s) n, (values ('provider_minute'), ('provider_day')) as k(kind)",
        (WINDOWS // 2,),
    )


def on_a_new_connection(url: str, first: int) -> list[dict]:
    with psycopg.connect(url, autocommit=True) as conn:
        return watched(conn, first)


def watched(conn: psycopg.Connection, first: int) -> list[dict]:
    """Every node of every statement that ran, with its counts."""
    nodes: list[dict] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        text = diagnostic.message_primary or ""
        if "plan:" in text:
            nodes.extend(walk(json.loads(text.partition("plan:")[2])["Plan"]))

    conn.execute("load 'auto_explain'")
    for name, value in {
        "log_min_duration": "0", "log_nested_statements": "on", "log_analyze": "on", "log_timing": "off",
        "log_buffers": "on", "log_format": "json", "log_level": "notice",
    }.items():  # fmt: skip
        conn.execute(f"set auto_explain.{name} = {value}")
    conn.add_notice_handler(note)
    everything(conn, first)
    assert limit.prune(conn, limit=BATCH) == BATCH
    conn.remove_notice_handler(note)
    return nodes


def walk(node: dict) -> Iterator[dict]:
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)


@pytest.mark.parametrize("state", STATES)
def test_counts_are_found_by_index(plans, state):
    touched = [
        node for node in plans[state] if node.get("Relation Name") in COUNTS and "Scan" in node["Node Type"]
    ]
    assert {node["Relation Name"] for node in touched} == COUNTS
    for node in touched:
        assert node["Node Type"] in {"Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Tid Scan"}, node
        rows = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        assert rows <= 3 * BATCH, (node["Node Type"], node["Relation Name"], rows)
        assert node["Node Type"] != "Index Scan" or node.get("Index Cond"), node


@pytest.mark.parametrize("state", STATES)
def test_what_is_read_is_bounded_by_the_batch(plans, state):
    for node in plans[state]:
        assert node["Shared Hit Blocks"] + node["Shared Read Blocks"] <= 120 * BATCH, node["Node Type"]


def test_what_is_indexed_does_not_change_with_each_grant(conn):
    kept = "select stale_at from outboxd.recipient_count union all select stale_at from outboxd.window_count"
    limit.grant(conn, columns([subject(1)], LIMITS), now=NOON)
    before = conn.execute(kept).fetchall()
    limit.grant(conn, columns([subject(2)], LIMITS), now=NOON + MINUTE)
    assert conn.execute(kept).fetchall() == before
