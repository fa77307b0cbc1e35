"""Two daemons under an account's quota: the provider never has reason to refuse, and what is urgent keeps its share."""

import json

import pytest
from conftest_path import count, drained, only_once
from factories import insert, payload
from ledger import filled, most_within
from test_closed_provider import WATCH, writes
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]
MOST, SHARE, PERIOD = 100, 0.2, 6.0

CROWD = """
insert into outboxd.email (type, payload)
select 'newsletter', jsonb_set(%s::jsonb, '{to}', to_jsonb('r' || n || '@d' || n %% 100 || '.example'))
from generate_series(1, %s) as n
"""


def put(conn, count, type_):
    """Emails of two recipients each."""
    with conn.transaction():
        for n in range(count):
            insert(conn, type=type_, body=payload(to=f"a{n}@one.example", cc="b@two.example"))


def test_daemons_together_stay_below_a_quota_and_keep_its_share_for_critical_mail(conn, sink, daemon):
    running = sink()
    conn.execute("update outboxd.limit_rule set most = null")
    settings = {"kind": "account_day", "most": MOST, "per": f"{PERIOD} s", "critical_share": SHARE}
    conn.execute("select outboxd.set_limit('quota', %s)", (json.dumps(settings),))
    put(conn, 110, "newsletter")
    for _ in range(2):
        daemon(running.url, limits=True)
    until(lambda: count(conn, "delivery") == 40, what="the share of the others to be used up")
    put(conn, 10, "reset")
    until(lambda: count(conn, "delivery") == 50, within=3, what="the critical ones to go at once")
    until(lambda: drained(conn), within=60, what="all to go")
    arrivals = [(entry.at, len(entry.to)) for entry in running.provider.entries if entry.verdict == "new"]
    at = [at for at, recipients in arrivals for _ in range(recipients)]
    print(f"\nmost in {PERIOD} s: {most_within(at, PERIOD)} of {MOST}")
    assert most_within(at, PERIOD) <= MOST
    assert filled(at, MOST, PERIOD + 1) >= 0.75  # most of them may use four fifths
    assert only_once(running)["accepted"] == 120
    assert count(conn, "attempt") == 0
    assert count(conn, "dead_letter") == 0


def test_what_a_used_up_quota_holds_is_parked_in_bulk_and_critical_mail_behind_it_leaves(conn, sink, daemon):
    running = sink()
    conn.execute(WATCH)
    conn.execute("update outboxd.limit_rule set most = null")
    settings = {"kind": "account_day", "most": 1_000, "per": "1 h", "critical_share": 0.9}
    conn.execute("select outboxd.set_limit('quota', %s)", (json.dumps(settings),))
    conn.execute("update outboxd.queue set priority = 1")
    conn.execute(CROWD, (json.dumps(payload()), 20_000))
    put(conn, 10, "reset")
    daemon(running.url, limits=True)
    critical = "queue = (select id from outboxd.queue where name = 'transactional')"
    until(lambda: count(conn, "delivery", critical) == 10, within=30, what="the critical ones")
    until(lambda: count(conn, "ready", "lane = 0") == 0, within=60, what="the crowd to be parked")
    until(lambda: count(conn, "lease") == 0, what="what was claimed to be back")
    inserted, updated, deleted = writes(conn)
    sent = count(conn, "delivery")
    print(f"\n{updated} parked in bulk, {deleted - sent} by settling")
    assert 90 <= sent <= 110
    assert inserted - deleted == 20_010 - sent
    assert deleted - sent <= 5_000
