"""A reset mail in front of a campaign that drains: asked for at once, or in the next request that the provider allows."""

import json
import time

import pytest
from conftest_path import count, only_once
from factories import insert, payload, uid_of
from ledger import asked, percentile
from waiting import until

pytestmark = [pytest.mark.path, pytest.mark.slow]
NEWSLETTERS = """
insert into outboxd.email (type, campaign, payload)
select 'newsletter', 'may', jsonb_set(%s::jsonb, '{to}', to_jsonb('r' || n || '@d' || n %% 50 || '.example'))
from generate_series(1, %s) as n
"""
ROOMY = """
update outboxd.limit_rule
set most = case kind when 'account' then null else 1000000 end, options = options - 'exempt_types';
insert into outboxd.limit_rule (name, kind, most, per) values
  ('queue', 'queue', 1000000, '1 h'), ('campaign', 'campaign', 1000000, '1 h');
"""


def roomy(conn) -> None:
    """Every email is asked about: its mailbox, its provider's minute and day, its queue and campaign. None is held."""
    conn.execute(ROOMY)


def all_counted(conn, running) -> None:
    """Each mailbox that got something, for they are all different; each email in its provider's day and its queue's hour."""
    accepted = len(running.provider.accepted_by_uid)
    counted = (
        "select sum((select sum(units) from unnest(n) as units)) from outboxd.window_count where kind = %s"
    )
    assert count(conn, "recipient_count") >= accepted
    for kind in ("provider_day", "queue"):
        assert conn.execute(counted, (kind,)).fetchone()[0] >= accepted


def campaign(conn, emails: int) -> None:
    conn.execute(NEWSLETTERS, (json.dumps(payload()), emails))


def probe(conn, running, probes: int, gap: float) -> list[tuple[float, float]]:
    """When each reset mail was committed and when it was asked for, in Unix seconds, one after the other."""
    found, last = [], time.monotonic()
    for n in range(probes):
        until(lambda: time.monotonic() >= last + gap, what="the next probe")  # noqa: B023
        last = time.monotonic()
        id_ = insert(conn, type="reset", body=payload(to=f"reset-{n}@elsewhere.example"))
        committed, uid = time.time(), str(uid_of(conn, id_))
        until(lambda: running.provider.accepted_by_uid[uid], within=30, what="the reset mail")  # noqa: B023
        (at,) = [entry.at for entry in asked(running) if uid in entry.uids and entry.verdict == "new"]
        found.append((committed, at))
    return found


def without_a_rate_limit(conn, sink, daemon, *, emails: int, probes: int, gap: float) -> list[float]:
    """Seconds from commit to ask of each probe while the campaign drains."""
    running = sink(think_time=0.02)
    conn.execute("update outboxd.queue set batch = false where name = 'marketing'")
    roomy(conn)
    campaign(conn, emails)
    daemon(running.url, limits=True, OUTBOXD_SENDER__THREADS="8")
    until(lambda: len(running.provider.accepted_by_uid) > 100, what="the campaign to go")
    waits = [at - committed for committed, at in probe(conn, running, probes, gap)]
    left = emails + probes - len(running.provider.accepted_by_uid)
    print(
        f"\np50 {percentile(waits, 0.5) * 1000:.1f} ms, p99 {percentile(waits, 0.99) * 1000:.1f} ms, {left} left"
    )
    assert left > 0, "the campaign had ended before the last probe"
    only_once(running)
    all_counted(conn, running)
    return waits


def test_a_reset_mail_is_asked_for_at_once_while_a_campaign_drains(conn, sink, daemon):
    waits = without_a_rate_limit(conn, sink, daemon, emails=6_000, probes=20, gap=0.1)
    assert percentile(waits, 0.5) <= 0.1
    assert max(waits) <= 0.5  # on a busy machine


@pytest.mark.long
def test_a_reset_mail_is_asked_for_within_50_ms_while_two_hundred_thousand_drain(conn, sink, daemon):
    waits = without_a_rate_limit(conn, sink, daemon, emails=200_000, probes=100, gap=0.2)
    assert percentile(waits, 0.99) <= 0.05


def in_the_next_slot(conn, sink, daemon, *, emails: int, probes: int) -> list[int]:
    """How many other requests were made between the commit of each probe and its own."""
    running = sink(rate_limit=10)
    roomy(conn)
    campaign(conn, emails)
    daemon(running.url, limits=True)
    until(lambda: len(asked(running)) > 10, what="the campaign to go")
    found = probe(conn, running, probes, 0.3)
    others = [sum(committed < entry.at < at for entry in asked(running)) for committed, at in found]
    waits = [at - committed for committed, at in found]
    print(f"\nrequests between: {sorted(others)[-5:]}; p99 {percentile(waits, 0.99) * 1000:.0f} ms")
    assert count(conn, "ready") > 0, "the campaign had ended before the last probe"
    only_once(running)
    all_counted(conn, running)
    return others


def test_a_reset_mail_has_the_next_request_that_the_provider_allows(conn, sink, daemon):
    others = in_the_next_slot(conn, sink, daemon, emails=15_000, probes=15)
    assert sorted(others)[len(others) // 2] <= 2
    assert max(others) <= 5


@pytest.mark.long
def test_a_hundred_reset_mails_have_the_next_request_that_the_provider_allows(conn, sink, daemon):
    others = in_the_next_slot(conn, sink, daemon, emails=200_000, probes=100)
    assert percentile(others, 0.99) <= 1
