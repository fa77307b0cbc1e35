"""What is the account's or a domain's fault stops before it costs: no attempt burned, nothing dead, all go out later."""

import signal
from datetime import UTC, datetime, timedelta

import pytest
from conftest_path import NEW, OLD, count, drained, only_once
from factories import insert, insert_many, payload
from waiting import until

from outboxd.sink.options import Fault

pytestmark = pytest.mark.path


def paused(conn) -> list:
    return conn.execute("select kind, key, reason from outboxd.pause order by 1, 2").fetchall()


def probe_now(conn) -> None:
    conn.execute("update outboxd.pause set probe_at = clock_timestamp()")
    conn.execute("notify outboxd")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("emails", "together"),
    [
        (1000, False), (4000, True),
        pytest.param(5000, False, marks=pytest.mark.long), pytest.param(5000, True, marks=pytest.mark.long),
    ],
    ids=["1000", "4000 in batches", "5000", "5000 in batches"],
)  # fmt: skip
def test_a_revoked_key_pauses_the_account_and_burns_nothing(conn, sink, daemon, key_file, emails, together):
    """And a new key that is read at SIGHUP is all that it takes to go on."""
    running = sink(think_time=0.1 if together else 0.02, key_modes={NEW: "revoked"})
    conn.execute("update outboxd.queue set batch = %s", (together,))
    insert_many(conn, emails, type="newsletter")
    keyed = {"CREDENTIALS_DIRECTORY": str(key_file.parent), "RESEND_API_KEY": ""}
    one = daemon(running.url, OUTBOXD_SENDER__THREADS="8", **keyed)
    until(lambda: running.provider.verdicts["new"] > (8 if together else 100), what="sending")
    running.provider.control({"key_modes": {OLD: "revoked"}})
    until(lambda: paused(conn) == [("account", "default", "key")], what="the pause")
    until(lambda: count(conn, "lease") == 0, what="all to be back")
    refused = [entry for entry in list(running.provider.entries) if entry.status == 401]
    assert 1 <= len(refused) <= 8 + 5
    assert {entry.call for entry in refused} == {"POST /emails/batch" if together else "POST /emails"}
    assert 0 < count(conn, "delivery") < emails, "it was revoked in the middle"
    assert count(conn, "dead_letter") == 0
    assert count(conn, "progress", "attempts > 0") == 0
    assert bool(count(conn, "batch")) == together
    assert count(conn, "batch", "attempts > 0") == 0
    key_file.write_text(NEW + "\n")
    one.process.send_signal(signal.SIGHUP)
    until(lambda: paused(conn) == [], what="the probe under the new key, well before the minute of its own")
    until(lambda: drained(conn), within=120, what="all to go out")
    assert only_once(running)["accepted"] == emails
    assert running.provider.verdicts["refused"] == len(refused)
    assert conn.execute("select max(attempts) from outboxd.delivery").fetchone() == (1,)


def test_an_unverified_domain_waits_and_others_go(conn, sink, daemon):
    running = sink(verified_domains=frozenset({"good.example"}))
    with conn.transaction():
        for n in range(50):
            for domain in ("good.example", "bad.example"):
                body = payload(**{"to": f"r{n}@example.org", "from": f"News <news@{domain}>"})
                insert(conn, type="newsletter", body=body)
    daemon(running.url)
    until(lambda: count(conn, "delivery") == 50, what="the good ones to go")
    until(lambda: paused(conn) == [("domain", "bad.example", "domain")], what="the pause")
    until(lambda: count(conn, "lease") == 0, what="the others to be back")
    assert count(conn, "dead_letter") == 0
    running.provider.control({"verified_domains": None})
    probe_now(conn)
    until(lambda: count(conn, "delivery") == 100, within=20, what="the others to go")
    assert only_once(running)["accepted"] == 100
    assert paused(conn) == []


def ends_as_a_daily_quota(since: datetime, until_: datetime) -> bool:
    """Soon after the next 00:00 UTC; within five minutes of it, five minutes later, for it may be yesterday's refusal.

    It was judged before it was stored, at most a second: perhaps on the other side of one of these borders.
    """
    for judged_at in (since, since - timedelta(seconds=1)):
        midnight = judged_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if judged_at < midnight + timedelta(minutes=5):
            least = most = since + timedelta(minutes=5)
        else:
            least = midnight + timedelta(days=1, seconds=5)
            most = least + timedelta(seconds=25 + 1)
        if least <= until_ <= most:
            return True
    return False


def test_a_daily_quota_pauses_until_midnight(conn, sink, daemon):
    running = sink(daily_quota=0)
    insert(conn)
    daemon(running.url)
    until(lambda: paused(conn) == [("account", "default", "daily_quota")], what="the pause")
    since, end = conn.execute("select since, until from outboxd.pause").fetchone()
    assert ends_as_a_daily_quota(since, end), (since, end)
    running.provider.control({"daily_quota": None})
    conn.execute("update outboxd.pause set until = clock_timestamp()")
    until(lambda: drained(conn), what="the email to go")
    assert only_once(running)["accepted"] == 1


def test_five_equal_message_errors_of_different_emails_pause_until_a_probe_says_otherwise(conn, sink, daemon):
    running = sink()
    conn.execute("update outboxd.queue set batch = false")
    with conn.transaction():
        for n in range(12):
            insert(conn, type="newsletter", body=payload(to=f"fault+422@bad-{n}.example"))
    daemon(running.url, OUTBOXD_SENDER__THREADS="1")
    until(lambda: paused(conn) == [("account", "default", "message_errors")], what="the pause")
    assert count(conn, "dead_letter") == 4
    insert(conn, body=payload(to="good@example.org"))
    probe_now(conn)
    until(lambda: count(conn, "delivery") == 1, what="the probe")
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp()")
    until(lambda: drained(conn) and count(conn, "dead_letter") == 12, what="the bad ones to end")
    assert paused(conn) == []


def test_a_probe_leaves_the_mail_of_a_queue_that_a_person_paused(conn, sink, daemon):
    running = sink()
    first = insert(conn, type="newsletter")
    conn.execute("select outboxd.pause('queue', 'marketing', 'a person said so')")
    conn.execute(
        "insert into outboxd.pause (kind, key, reason, by, probe_at, probe_every) "
        "values ('account', 'default', 'key', 'outboxd', clock_timestamp(), '1 min')"
    )
    daemon(running.url)
    probed = "select probe_at > clock_timestamp() from outboxd.pause where kind = 'account'"
    until(lambda: conn.execute(probed).fetchone() == (True,), what="the probe to be taken")
    insert(conn)
    probe_now(conn)
    until(lambda: count(conn, "delivery") == 1, what="the other queue's email")
    assert paused(conn) == [("queue", "marketing", "a person said so")]
    assert count(conn, "delivery", f"id = {first}") == 0
    assert len(running.provider.entries) == 1


def test_an_account_is_probed_with_a_suspect_where_nothing_else_waits(conn, sink, daemon):
    running = sink()
    insert(conn)
    conn.execute("update outboxd.ready set lane = -1")
    conn.execute(
        "insert into outboxd.pause (kind, key, reason, by, probe_at, probe_every) "
        "values ('account', 'default', 'key', 'outboxd', clock_timestamp(), '1 s')"
    )
    daemon(running.url)
    until(lambda: count(conn, "delivery") == 1, what="the probe")
    assert paused(conn) == []


def test_mail_that_expired_during_the_pause_does_not_use_up_its_probes(conn, sink, daemon):
    running = sink()
    insert_many(conn, 10)
    conn.execute("update outboxd.email set expires_at = clock_timestamp() - interval '1 s'")
    insert_many(conn, 5)
    conn.execute(
        "insert into outboxd.pause (kind, key, reason, by, probe_at, probe_every) "
        "values ('account', 'default', 'key', 'outboxd', clock_timestamp(), '1 min')"
    )
    daemon(running.url)
    until(lambda: drained(conn), within=20, what="all to end")
    assert only_once(running)["accepted"] == 5
    assert paused(conn) == []


def test_a_429_that_names_no_rate_does_not_lift_the_pace(conn, sink, daemon):
    running = sink(faults=(Fault("429-bare", 1.0),))
    insert(conn)
    daemon(running.url)
    until(lambda: count(conn, "account", "overran_at is not null") == 1, what="the overrun to be known")
    assert conn.execute("select rate from outboxd.account").fetchone() == (10.0,)


@pytest.mark.slow
def test_a_mailbox_provider_that_is_paused_while_its_mail_is_in_hand_gets_no_more_of_it(conn, sink, daemon):
    """The provider is held back by a slow answer, so that the hand is full when the pause is committed."""
    running = sink(think_time=0.3)
    conn.execute("update outboxd.queue set batch = false")
    insert_many(conn, 60, type="newsletter", to="ada@gmail.com")
    daemon(running.url, OUTBOXD_SENDER__THREADS="2")
    until(lambda: len(running.provider.entries) >= 2, what="sending")
    conn.execute("select outboxd.pause('provider', 'gmail', 'deferrals')")
    until(lambda: count(conn, "lease") == 0, what="what was in hand to be back")
    asked = len(running.provider.entries)
    assert asked <= 2 + 2 * 7, "two senders, a second and the ask that is on its way"
    other = insert(conn, type="newsletter", body=payload(to="bob@elsewhere.example"))
    until(lambda: count(conn, "delivery", f"id = {other}") == 1, what="another provider's mail")
    lanes = "select distinct lane.kind, lane.key from outboxd.ready left join outboxd.lane on lane.id = ready.lane"
    until(lambda: conn.execute(lanes).fetchall() == [("provider", "gmail")], what="all to be parked")
    assert len(running.provider.entries) == asked + 1
    assert conn.execute("select outboxd.resume('provider', 'gmail')").fetchone() == (True,)
    until(lambda: drained(conn), within=30, what="all to go out")
    assert only_once(running)["accepted"] == 61
    log = "select action, kind, key from outboxd.operator_log order by id desc limit 2"
    assert conn.execute(log).fetchall() == [("resume", "provider", "gmail"), ("pause", "provider", "gmail")]
