"""A campaign behind its limit costs the others nothing, and a tenant that crowds a queue leaves the others their turn."""

import json

import pytest
from conftest_path import count, only_once
from factories import insert, payload, uid_of
from ledger import asked
from psycopg.types.json import Jsonb
from test_closed_provider import WATCH, writes
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]
BULK = """
insert into outboxd.email (type, payload, campaign, tenant)
select 'newsletter', jsonb_set(%s::jsonb, '{to}', to_jsonb('r' || n || '@d' || n %% 100 || '.example')), %s, %s
from generate_series(1, %s) as n
"""
ALLOWED, OTHERS = 100, 1_000
IN_HAND = 2_500  # emails that may be claimed before the tenant is seen to be a crowd


def bulk(conn, emails: int, *, campaign: str | None = None, tenant: str = "") -> None:
    conn.execute(BULK, (json.dumps(payload()), campaign, tenant, emails))


def limit(conn, kind: str, most: int) -> None:
    """The only limit that there is."""
    conn.execute("update outboxd.limit_rule set most = null where most is not null")
    settings = {"kind": kind, "most": most, "per": "1 h"}
    conn.execute("select outboxd.set_limit('mine', %s)", (Jsonb(settings),))


@pytest.mark.parametrize("kind", ["campaign", "tenant"])
@pytest.mark.parametrize("emails", [10_000, pytest.param(50_000, marks=pytest.mark.long)])
def test_what_waits_behind_its_limit_is_parked_in_bulk_and_the_others_leave(conn, sink, daemon, kind, emails):
    running = sink()
    conn.execute(WATCH)
    limit(conn, kind, ALLOWED)
    bulk(conn, emails, **{kind: "mine"})
    bulk(conn, OTHERS)
    daemon(running.url, limits=True)
    accepted = running.provider.accepted_by_uid
    until(lambda: len(accepted) >= ALLOWED + OTHERS, within=60, what="the others to leave")
    until(lambda: count(conn, "ready", "lane = 0") == 0, within=60, what="all to be parked")
    until(lambda: count(conn, "lease") == 0, what="what was claimed to be back")
    assert len(accepted) == ALLOWED + OTHERS
    assert count(conn, "ready") == emails - ALLOWED
    inserted, updated, deleted = writes(conn)
    print(f"\n{updated} parked in bulk, {deleted - OTHERS} by settling, {inserted} inserted")
    assert updated + (deleted - OTHERS) <= (emails + OTHERS) * 1.05 + (IN_HAND if kind == "tenant" else 0)
    bulk(conn, 500, **{kind: "mine"})
    assert count(conn, "ready", "lane = 0") == 0, "enqueue puts into the lane at once"
    only_once(running)


@pytest.mark.parametrize("emails", [15_000, pytest.param(50_000, marks=pytest.mark.long)])
def test_a_crowd_of_one_tenant_delays_the_others_by_what_one_claim_took(conn, sink, daemon, emails):
    running = sink(rate_limit=10)
    bulk(conn, emails, tenant="crowding")
    others = [str(uid_of(conn, insert(conn, type="newsletter", tenant=f"t{n}"))) for n in range(10)]
    daemon(running.url)
    accepted = running.provider.accepted_by_uid
    until(lambda: all(accepted[uid] for uid in others), within=60, what="the others to go")
    order = [uid for entry in asked(running) for uid in entry.uids]
    before = min(order.index(uid) for uid in others)
    print(f"\n{before} of {emails} went before the first of the others")
    assert before <= 2_500, "a claim, and what was in hand beside it"
    only_once(running)


def test_a_limit_that_is_raised_lets_go_what_waits_in_its_lane_within_seconds(conn, sink, daemon):
    running = sink()
    limit(conn, "campaign", 1)
    bulk(conn, 20, campaign="mine")
    daemon(running.url, limits=True)
    accepted = running.provider.accepted_by_uid
    until(lambda: count(conn, "ready", "lane > 0") == 19, what="the others to be parked")
    assert len(accepted) == 1
    conn.execute("select outboxd.set_limit('mine', %s)", (Jsonb({"most": 100}),))
    until(lambda: len(accepted) == 20, within=10, what="the others to go")
    only_once(running)


def test_what_waits_behind_its_limit_is_not_claimed_again_for_each_email_that_comes(conn, sink, daemon):
    conn.execute(WATCH)
    conn.execute("update outboxd.limit_rule set most = null where most is not null")
    rule = {"kind": "campaign", "key": "mine", "most": 1, "per": "3 s"}
    conn.execute("select outboxd.set_limit('mine', %s)", (Jsonb(rule),))
    running = sink()
    accepted = running.provider.accepted_by_uid
    daemon(running.url, limits=True)
    bulk(conn, 40, campaign="mine")
    until(lambda: len(accepted) > 1, what="the limit to have closed and opened the lane")
    before = writes(conn)[2]
    for _ in range(60):
        uid = str(uid_of(conn, insert(conn)))
        until(lambda uid=uid: accepted[uid] == 1, what="an email that is under no limit to go")
    claimed = writes(conn)[2] - before - 60
    print(f"\n{claimed} claims of what was limited, while 60 others went")
    assert claimed <= 100, "one claim each time the lane opens, not one for each email"
