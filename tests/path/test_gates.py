"""The gates as a black box: who said no gets nothing, and no limit is exceeded while all of it goes out in the end."""

import bisect
import contextlib
from collections import defaultdict

import pytest
from conftest_path import count, drained, only_once
from factories import insert, insert_many, payload, state_of
from stalling import StallingProxy
from waiting import until

pytestmark = pytest.mark.path


def arrivals(running) -> dict[str, list[float]]:
    """When each domain's emails were accepted, by the provider's clock."""
    found = defaultdict(list)
    for entry in running.provider.entries:
        if entry.verdict == "new":
            for address in entry.to:
                found[address.rpartition("@")[2]].append(entry.at)
    return {domain: sorted(times) for domain, times in found.items()}


def most_within(times: list[float], window: float) -> int:
    """The most in any sliding window."""
    return max(
        (place + 1 - bisect.bisect_right(times, at - window) for place, at in enumerate(times)), default=0
    )


def test_a_daemon_whose_first_read_of_the_limits_is_cut_off_begins_with_them_all_the_same(
    database, conn, sink, daemon
):
    running = sink()
    insert_many(conn, 20)
    reads = b"limit_rule.per, limit_rule.options"  # by the keeper, and at once by the reclaimer
    proxy = StallingProxy(conn.info.host, conn.info.port, cut_at=reads, cuts=2)
    with contextlib.closing(proxy):
        daemon(running.url, limits=True, DATABASE_URL=proxy.url(database))
        until(lambda: running.provider.accepted_by_uid, what="the first to be sent")
        until(lambda: count(conn, "ready") == 17 and not count(conn, "lease"), what="the others to wait")
    assert proxy.cuts_left == 0
    assert only_once(running)["accepted"] == 3


def test_a_suppressed_address_gets_nothing_and_the_others_of_an_email_do(conn, sink, daemon):
    running = sink()
    conn.execute("select outboxd.suppress('no@example.org', 'unsubscribe', 'marketing', 'test')")
    letter = insert(conn, type="newsletter", body=payload(to="no@example.org"))
    reset = insert(conn, type="reset", body=payload(to="no@example.org"))
    copied = insert(
        conn, type="newsletter", body=payload(to="yes@example.org", cc=["no@example.org", "c@example.org"])
    )
    daemon(running.url)
    until(lambda: count(conn, "delivery") == 3, what="all to end")
    assert [state_of(conn, id_) for id_ in (letter, reset, copied)] == ["suppressed", "sent", "sent"]
    assert conn.execute("select reason from outboxd.delivery where id = %s", (letter,)).fetchone() == (
        "unsubscribe (marketing)",
    )
    assert {tuple(entry.to) for entry in running.provider.entries} == {
        ("no@example.org",), ("yes@example.org", "c@example.org"),
    }  # fmt: skip


def test_limits_of_recipients_and_providers_hold_and_all_go_out(conn, sink, daemon):
    running = sink()
    conn.execute("update outboxd.limit_rule set most = null where kind <> 'provider_minute'")
    conn.execute('select outboxd.set_limit(\'provider_minute\', \'{"most": 20, "per": "60 s"}\')')
    with conn.transaction():
        for n in range(160):
            insert(conn, type="newsletter", body=payload(to=f"r{n}@d{n % 4}.example"))
    other = daemon(running.url, limits=True)
    del other
    until(lambda: count(conn, "delivery") == 80, within=20, what="what is allowed at once")
    assert {domain: len(times) for domain, times in arrivals(running).items()} == {
        f"d{n}.example": 20 for n in range(4)
    }
    assert count(conn, "lane", "kind = 'provider'") == 4
    until(lambda: count(conn, "ready") == 80 and count(conn, "lease") == 0, what="the others to wait")
    assert all(most_within(times, 60.0) <= 20 for times in arrivals(running).values())
    late = insert(conn, type="newsletter", body=payload(to="late@d0.example"))
    lane = conn.execute(
        "select lane.key from outboxd.ready join outboxd.lane on lane.id = lane where ready.id = %s", (late,)
    )
    assert lane.fetchone() == ("d0.example",)
    fast = insert(conn, body=payload(to="fast@elsewhere.example"))
    until(lambda: state_of(conn, fast) == "sent", what="another provider's mail")
    conn.execute("select outboxd.set_limit('provider_minute', '{\"most\": null}')")
    conn.execute("update outboxd.lane set closed_until = null")
    until(lambda: drained(conn), within=20, what="all to go")
    assert only_once(running)["accepted"] == 162


def test_a_recipient_gets_three_an_hour_and_a_reset_is_never_the_fourth(conn, sink, daemon):
    running = sink()
    letters = [insert(conn, type="welcome", body=payload(to="ada@example.org")) for _ in range(5)]
    daemon(running.url, limits=True)
    until(lambda: count(conn, "delivery") == 3, what="three to go")
    reset = insert(conn, type="reset", body=payload(to="ada@example.org"))
    until(lambda: state_of(conn, reset) == "sent", what="the reset")
    until(lambda: count(conn, "lease") == 0, what="the others to wait")
    waits = conn.execute("select scheduled_at - clock_timestamp() from outboxd.ready").fetchall()
    assert len(waits) == 2
    assert all(3500 < wait[0].total_seconds() < 3700 for wait in waits)
    assert {state_of(conn, id_) for id_ in letters} == {"sent", "scheduled"}
    assert conn.execute("select count(*) from outboxd.progress").fetchone() == (0,)


def test_an_email_without_a_suppressed_copy_goes_alone_and_its_neighbours_together(conn, sink, daemon):
    running = sink()
    conn.execute("select outboxd.suppress('no@example.org', 'unsubscribe', 'marketing', 'test')")
    with conn.transaction():
        for n in range(6):
            cc = ["no@example.org"] if n % 3 == 0 else None
            insert(conn, type="newsletter", body=payload(to=f"r{n}@example.org", cc=cc))
    daemon(running.url)
    until(lambda: count(conn, "delivery", "state = 'sent'") == 6, what="all to go")
    assert sorted(entry.items or 1 for entry in running.provider.entries) == [1, 1, 4]
    assert not any("no@example.org" in entry.to for entry in running.provider.entries)
    assert only_once(running)["accepted"] == 6
