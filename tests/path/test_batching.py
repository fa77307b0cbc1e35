"""Many emails in one request: stored first, never twice, and one bad email hurts only itself."""

import random
from collections import Counter

import pytest
from conftest_path import count, dies, drained, only_once
from factories import insert, insert_many, payload, state_of
from waiting import until

from outboxd.sink.options import Fault

pytestmark = pytest.mark.path


def asks(running, call: str = "POST /emails/batch") -> list:
    return [entry for entry in list(running.provider.entries) if entry.call == call]


def newsletter(conn, emails: int, *, bad: set[int] = frozenset(), domain: str = "shop.example") -> None:
    """A lot in one transaction, so that it is due at once."""
    with conn.transaction():
        for n in range(emails):
            to = f"fault+422@bad-{n}.example" if n in bad else f"reader-{n}@example.org"
            insert(conn, type="newsletter", body=payload(**{"to": to, "from": f"News <news@{domain}>"}))


def test_what_is_due_together_travels_in_few_requests(conn, sink, daemon):
    running = sink()
    insert_many(conn, 1000, type="newsletter")
    daemon(running.url)
    until(lambda: drained(conn), within=30, what="the queue to drain")
    assert only_once(running)["accepted"] == 1000
    assert len(running.provider.entries) <= 40
    assert count(conn, "batch") == count(conn, "batch_member") == 0
    assert count(conn, "delivery", "state = 'sent' and provider_id is not null") == 1000


@pytest.mark.parametrize("queues", [1, 6])
def test_at_two_requests_a_second_a_backlog_travels_in_few_though_mail_went_one_by_one_before(
    conn, sink, daemon, queues
):
    types = ["newsletter", *(f"news-{n}" for n in range(1, queues))]
    for name in types[1:]:
        conn.execute("insert into outboxd.queue (name, priority) values (%s, 100)", (name,))
        conn.execute("insert into outboxd.email_type (name, queue) values (%s, %s)", (name, name))
    running = sink(rate_limit=2)
    daemon(running.url)
    for _ in range(8):
        lone = insert(conn, type="newsletter")
        until(lambda lone=lone: state_of(conn, lone) == "sent", what="an email that comes alone")
    for name in types:
        insert_many(conn, 420 // queues, type=name)
    until(lambda: drained(conn), within=25, what="the queue to drain, which is 210 s one by one")
    assert only_once(running)["accepted"] == 428
    assert len(asks(running)) <= 7 + 4 * queues


def test_one_bad_email_among_a_hundred_ends_alone(conn, sink, daemon):
    running = sink()
    newsletter(conn, 100, bad={37})
    daemon(running.url)
    until(lambda: drained(conn) and count(conn, "batch") == 0, within=30, what="the queue to drain")
    assert only_once(running)["accepted"] == 99
    assert conn.execute("select error_class, http_status, attempts from outboxd.dead_letter").fetchall() == [
        ("message", 422, 1)
    ]
    assert len(running.provider.entries) <= 1 + 14


def test_attachments_and_secrets_travel_alone(conn, sink, daemon):
    running = sink()
    clip = [{"filename": "a.txt", "content": "aGk="}]
    with conn.transaction():
        for n in range(4):
            insert(conn, type="newsletter", body=payload(to=f"clip-{n}@example.org", attachments=clip))
            insert(conn, type="reset", body=payload(to=f"reset-{n}@example.org"))
            insert(conn, type="newsletter", body=payload(to=f"plain-{n}@example.org"))
    daemon(running.url)
    until(lambda: drained(conn), what="the queue to drain")
    alone = Counter(entry.to[0].split("-")[0] for entry in asks(running, "POST /emails"))
    assert (alone["clip"], alone["reset"]) == (4, 4)
    assert [entry.items for entry in asks(running)] == [4]
    assert only_once(running)["accepted"] == 12


@pytest.mark.parametrize("kind", ["500", "accept-reset", "fewer-ids", "truncated"])
def test_a_batch_with_an_open_answer_is_asked_again_with_the_same_bytes_and_key(conn, sink, daemon, kind):
    conn.execute("update outboxd.email_type set backoff_base = '50 ms' where name = 'newsletter'")
    running = sink(faults=(Fault(kind, 1.0),))
    newsletter(conn, 60)
    daemon(running.url)
    until(lambda: len(asks(running)) >= 1, what="the first ask")
    running.provider.control({"faults": ()})
    until(lambda: count(conn, "delivery") == 60, within=20, what="the queue to drain")
    asked = asks(running)
    assert len({(entry.key, entry.sha256) for entry in asked}) == len({entry.key for entry in asked})
    assert only_once(running)["accepted"] == 60
    assert count(conn, "batch") == 0


def sent(conn) -> int:
    return count(conn, "delivery", "state = 'sent'")


def in_hand(conn, one) -> bool:
    """Whether this daemon has leases of its own, whatever others left behind."""
    mine = f"select worker from outboxd.worker where pid = {one.process.pid} order by started_at desc limit 1"
    return count(conn, "lease", f"worker = ({mine})") > 0


def dies_at_work(conn, running, victim, *, after: int) -> None:
    """Kill it at its n-th request for many, 0: at its first lease. What it had in hand is there when it is dead."""
    asked = len(asks(running)) + after
    until(lambda: in_hand(conn, victim) and len(asks(running)) >= asked, what="the victim to be at work")
    dies(conn, victim)
    assert in_hand(conn, victim), "the kill met nothing"


@pytest.mark.parametrize(
    ("emails", "kills"), [(2000, 4), pytest.param(20_000, 50, marks=pytest.mark.long)], ids=["4", "50"]
)
def test_kills_while_batching_accept_every_email_once(conn, sink, daemon, emails, kills):
    conn.execute("update outboxd.email_type set backoff_base = '50 ms' where name = 'newsletter'")
    running = sink(think_time=0.1)  # the work outlasts the kills, and each finds requests on their way
    insert_many(conn, emails, type="newsletter")
    moments = random.Random(7)
    environment = {
        "OUTBOXD_RESEND__DEADLINE": "1s", "OUTBOXD_SENDER__LEASE": "11s", "OUTBOXD_SENDER__CRASH_LIMIT": "0",
        "OUTBOXD_SENDER__THREADS": "4",
    }  # fmt: skip
    for _ in range(kills):
        victim = daemon(running.url, **environment)
        dies_at_work(conn, running, victim, after=moments.randint(0, 3))
        assert sent(conn) < emails
    running.provider.control({"think_time": 0.0})
    daemon(running.url, **environment)
    until(lambda: sent(conn) == emails and drained(conn), within=120, what="every email to be sent")
    assert only_once(running)["accepted"] == emails
    assert count(conn, "batch") == count(conn, "batch_member") == 0
    assert all(entry.key.startswith("obxb1.") for entry in asks(running))
    again = {entry.key for entry in asks(running) if entry.verdict == "replay"}
    assert len(again) >= kills // 4, "batches that were accepted, died in hand and were asked again"


def test_a_cancelled_member_of_a_waiting_batch_is_not_sent_and_the_others_are(conn, sink, daemon):
    running = sink(faults=(Fault("429", 1.0, 1.0),))
    newsletter(conn, 20)
    daemon(running.url)
    until(lambda: count(conn, "batch", "due_at is not null") >= 1, what="the batch to wait")
    victim = conn.execute("select id, uid from outboxd.email order by id limit 1").fetchone()
    conn.execute("select outboxd.cancel(%s)", (victim[1],))
    running.provider.control({"faults": ()})
    until(lambda: count(conn, "delivery") == 20, within=30, what="the queue to drain")
    assert state_of(conn, victim[0]) == "cancelled"
    assert only_once(running)["accepted"] == 19
