"""Two accounts: what waits for the quota of one goes at the other, and does not travel between their lanes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from factories import HOME, batched, claim_batches, insert, settle_parcel, state_of, uid_of
from test_exempt import Going
from test_lanes import COLUMNS, limited
from test_plans import explain, prepare

from outboxd.core.outcome import Ambiguous, Failed, Failure
from outboxd.db import batch, lease, pause
from outboxd.db.session import path_settings

OTHER = replace(HOME, account="other")
QUOTA = {home.account: f"{home.account}/marketing" for home in (HOME, OTHER)}
MANY = 150


@pytest.fixture(params=["account_day", "account_month"])
def used_up(request, conn: psycopg.Connection) -> psycopg.Connection:
    """The first account's quota is used up, and many emails wait in the lane that it closed."""
    limited(conn, request.param, most=1)
    conn.execute("insert into outboxd.account (name) values (%s)", (OTHER.account,))
    for _ in range(MANY):
        insert(conn, **COLUMNS)
    assert len(Going(conn).rounds()) == 1
    assert lanes(conn) == {QUOTA[HOME.account]: MANY - 1}
    return conn


def lanes(conn: psycopg.Connection) -> dict[str, int]:
    return dict(
        conn.execute(
            "select lane.key, count(*) from outboxd.ready join outboxd.lane on lane.id = ready.lane group by 1"
        ).fetchall()
    )


def also_limited(conn: psycopg.Connection) -> None:
    conn.execute("update outboxd.limit_rule set key = null where name = 'ours'")


def held_by(conn: psycopg.Connection) -> tuple[str, str]:
    (id_,) = conn.execute("select id from outboxd.ready order by id limit 1").fetchone()
    (gate,) = conn.execute(
        "select coalesce(max(gate) filter (where holds), '') from outboxd.explain(%s)", (uid_of(conn, id_),)
    ).fetchone()
    return state_of(conn, id_), gate


def status(conn: psycopg.Connection) -> tuple[int, int]:
    return conn.execute(
        "select ready, blocked from outboxd.queue_status where queue = 'marketing'"
    ).fetchone()


def test_what_one_account_has_no_quota_for_goes_at_another_that_has(used_up):
    assert Going(used_up).rounds() == set()
    assert len(Going(used_up, OTHER).rounds()) == MANY - 1


def test_where_neither_has_quota_what_waits_stays_and_is_not_claimed_again(used_up):
    also_limited(used_up)
    daemons = [Going(used_up), Going(used_up, OTHER)]
    assert len(daemons[1].rounds()) == 1
    for daemon in daemons * 2:  # each opens what is closed twice, once it has started
        daemon.rounds()
    before = used_up.execute("select id, lane, xmin::text from outboxd.ready order by id").fetchall()
    assert len(before) == MANY - 2
    for daemon in daemons:
        assert daemon.rounds() == set()
        assert {one.due_in > 3000 for one in lease.slots(used_up, daemon.home.account)} == {True}
    after = used_up.execute("select id, lane, xmin::text from outboxd.ready order by id").fetchall()
    assert after == before


def test_what_waits_in_one_accounts_lane_is_not_moved_in_bulk_into_the_others(used_up):
    also_limited(used_up)
    daemon = Going(used_up, OTHER)
    daemon.rounds()
    found = lanes(used_up)
    assert found[QUOTA[HOME.account]] > 0, "only what was claimed and refused has moved"
    assert found[QUOTA[OTHER.account]] > 10


def test_explain_and_the_views_say_that_it_waits_where_no_account_has_quota(used_up):
    assert (held_by(used_up), status(used_up)) == (("ready", ""), (MANY - 1, 0))
    pause.lane(used_up, "quota", QUOTA[OTHER.account], closed_until=datetime.now(UTC) + timedelta(minutes=1))
    assert (held_by(used_up), status(used_up)) == (("blocked", "lane"), (0, MANY - 1))


def test_an_account_that_nobody_asks_at_any_more_holds_no_lane_open_for_who_reads(used_up):
    used_up.execute(
        "update outboxd.account set drawn_at = clock_timestamp() - interval '2 d' where name = 'other'"
    )
    used_up.execute("update outboxd.account set drawn_at = clock_timestamp() where name <> 'other'")
    assert (held_by(used_up), status(used_up)) == (("blocked", "lane"), (0, MANY - 1))


@pytest.mark.parametrize("open_", [False, True], ids=["answered", "open"])
def test_a_batch_waits_for_the_quota_of_the_account_that_it_is_asked_at(conn, connect, open_):
    parcel = batched(conn, connect(), 2)
    failure = Failure("transient", "no")
    settle_parcel(conn, parcel, Ambiguous(failure) if open_ else Failed(failure))
    lane = pause.lane(
        conn, "quota", f"{HOME.account}/transactional", closed_until=datetime.now(UTC) + timedelta(hours=1)
    )
    conn.execute("update outboxd.batch set due_at = clock_timestamp(), lane = %s", (lane,))
    assert claim_batches(conn) == []
    assert [one.due_in > 0 for one in batch.waiting(conn, HOME.account)] == [True]
    assert [one.due_in > 0 for one in batch.waiting(conn, OTHER.account)] == [open_]
    assert len(claim_batches(conn, home=OTHER)) == (0 if open_ else 1)


def test_the_slots_of_many_lanes_cost_a_few_pages_each(conn):
    conn.execute(
        "insert into outboxd.lane (kind, key, closed_until)"
        " select kind, key || n || '/marketing', clock_timestamp() + interval '1 year' from generate_series(1, 5000) n,"
        " (values ('quota', 'a'), ('tenant', 't')) as lanes (kind, key)"
    )
    conn.execute(
        "insert into outboxd.ready (id, queue, lane, priority, scheduled_at)"
        " select lane.id, 1, lane.id, 1, clock_timestamp() from outboxd.lane order by lane.id limit 200"
    )
    conn.execute("set plan_cache_mode = force_generic_plan")
    with conn.transaction():
        path_settings(conn)
        prepare(conn, "ready/slots")
        root, *_ = nodes = explain(conn, "ready/slots")
    assert root["Actual Rows"] == 200
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] < 200 * 20
    scans = [node for node in nodes if node.get("Relation Name") == "lane"]
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) <= 11_000
