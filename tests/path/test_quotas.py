"""Two daemons under an account's quota: the provider never has reason to refuse, and what is urgent keeps its share."""

import json

import pytest
from conftest_path import count, drained, only_once
from factories import insert, payload
from ledger import filled, most_within
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]
MOST, SHARE, PERIOD = 100, 0.2, 6.0


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
