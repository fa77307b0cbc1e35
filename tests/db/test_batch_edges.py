"""Batches where two things meet: a lost answer and a pending commit, a long pause and a time-out, a changed account."""

import threading
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from factories import (
    HOME,
    batched,
    claim,
    claim_batches,
    insert,
    payload,
    settle_parcel,
    settler_without_thread,
    state_of,
    uid_of,
)
from waiting import until

from outboxd.core.batch import Batch, Parcel
from outboxd.core.outcome import Ambiguous, Failed, Failure, Rejected, Returned, Throttled
from outboxd.db import batch, lease, word
from outboxd.db.query import query
from outboxd.delivery.gates import judge
from outboxd.delivery.hand import Hand
from outboxd.delivery.leasing import Leasing, lease_batches
from outboxd.delivery.packer import repack
from outboxd.delivery.settler import settle

OPEN = Ambiguous(Failure("ambiguous", "time-out"))
NO = Rejected(Failure("message", "Invalid `to` field.", "validation_error", 422))
AGAIN = Failed(Failure("transient", "refused"))
LATER = Throttled(Failure("throttle", "429"), timedelta())
GONE = timedelta(seconds=-1)


def make_due(conn) -> None:
    conn.execute("update outboxd.batch set due_at = clock_timestamp() where due_at is not null")
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp() - interval '1 s'")


def count(conn, table: str) -> int:
    return conn.execute(f"select count(*) from outboxd.{table}").fetchone()[0]


def waits_for_lock(conn, waiter) -> bool:
    found = conn.execute(
        "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s", (waiter.info.backend_pid,)
    )
    return found.fetchone()[0]


def test_handing_back_sees_the_batches_of_a_commit_that_it_waited_for(conn, connect):
    lost, again = connect(), connect()
    for _ in range(2):
        insert(conn)
    emails = claim(lost)
    lease_id = emails[0].lease_id
    lost.execute("begin")
    lost.execute(query("batch/hold"), {"lease_id": lease_id})
    lost.execute(
        "insert into outboxd.batch (batch_uid, body, frozen, queue, lane) values (%s, '[]', '{}', 1, 0)",
        (uid := uuid4(),),
    )
    for place, email in enumerate(emails):
        lost.execute("insert into outboxd.batch_member values (%s, %s, %s)", (email.id, uid, place))
    handing = threading.Thread(target=lambda: lease.hand_back(again, lease_id))
    handing.start()
    until(lambda: waits_for_lock(conn, again), what="hand_back to wait")
    lost.execute("commit")
    handing.join(10)
    assert count(conn, "ready") == 0
    assert conn.execute("select count(*) from outboxd.batch where due_at is not null").fetchone() == (1,)


def test_a_batch_that_waited_through_a_change_of_account_is_open_where_it_was_asked(conn, connect):
    settle_parcel(conn, batched(conn, connect(), 2), LATER)
    make_due(conn)
    second = replace(HOME, account="second", api_url="http://127.0.0.1:2")
    (moved,) = claim_batches(conn, home=second)
    settle_parcel(conn, moved, OPEN)
    make_due(conn)
    (again,) = claim_batches(conn, home=second)
    assert judge(again, second, frozenset(), now=again.first.claimed_at) is None
    assert (
        judge(again, HOME, frozenset(), now=again.first.claimed_at).outcome.failure.kind == "account_changed"
    )


@pytest.mark.parametrize("ends", ["settle", "reclaim"])
def test_the_23_hours_of_a_batch_begin_with_the_first_ask_that_may_have_been_accepted(conn, connect, ends):
    settle_parcel(conn, batched(conn, connect(), 2), LATER)
    conn.execute("update outboxd.batch set first_asked_at = clock_timestamp() - interval '30 h'")
    make_due(conn)
    (parcel,) = claim_batches(conn, ttl=GONE if ends == "reclaim" else timedelta(seconds=60))
    if ends == "settle":
        settle_parcel(conn, parcel, OPEN)
    else:
        lease.reclaim(conn, crash_limit=0)
    make_due(conn)
    (again,) = claim_batches(conn)
    assert again.batch.ambiguous
    assert judge(again, HOME, frozenset(), now=again.first.claimed_at) is None


def test_the_23_hours_of_a_crashed_email_begin_with_the_first_ask_that_may_have_been_accepted(conn):
    insert(conn)
    settle_parcel(conn, Parcel(tuple(claim(conn))), LATER)
    conn.execute("update outboxd.progress set first_asked_at = clock_timestamp() - interval '30 h'")
    make_due(conn)
    assert len(claim(conn, ttl=GONE)) == 1
    lease.reclaim(conn, crash_limit=0)
    (again,) = claim(conn)
    assert again.ambiguous
    assert judge(Parcel((again,)), HOME, frozenset(), now=again.claimed_at) is None


def test_members_of_a_batch_that_is_taken_apart_keep_its_attempts(conn, connect):
    settle_parcel(conn, batched(conn, connect(), 3), AGAIN)
    make_due(conn)
    (parcel,) = claim_batches(conn)
    assert parcel.batch.attempts == 1
    settle_parcel(conn, parcel, Returned(), asked_at=None)
    assert {(email.attempts, email.first_failed_at) for email in claim(conn)} == {
        (1, parcel.batch.first_failed_at)
    }


def test_members_beside_a_cancelled_one_keep_the_attempts_of_their_batch(conn, connect):
    settle_parcel(conn, batched(conn, connect(), 3), AGAIN)
    make_due(conn)
    (parcel,) = claim_batches(conn)
    conn.execute("select outboxd.cancel(%s)", (uid_of(conn, parcel.first.id),))
    parcel = replace(parcel, emails=(replace(parcel.first, cancelled=True), *parcel.emails[1:]))
    stopped = judge(parcel, HOME, frozenset(), now=parcel.first.claimed_at)
    settle_parcel(conn, parcel, stopped.outcome, asked_at=None, members=stopped.members)
    assert [email.attempts for email in claim(conn)] == [1, 1]
    assert conn.execute("select state, attempts from outboxd.delivery").fetchall() == [("cancelled", 1)]


def test_the_last_one_of_a_split_goes_on_with_the_attempts_of_its_batch(conn, connect):
    settle_parcel(conn, batched(conn, connect(), 2), AGAIN)
    make_due(conn)
    settle_parcel(conn, claim_batches(conn)[0], NO)
    make_due(conn)
    (rejected,) = claim_batches(conn)
    parts = repack(conn, rejected.first.lease_id, [rejected], HOME)
    assert [(part.batch, part.first.attempts) for part in parts] == [(None, 1), (None, 1)]
    settle_parcel(conn, parts[0], AGAIN)
    make_due(conn)
    (again,) = claim(conn)
    assert (again.attempts, again.first_failed_at) == (2, rejected.batch.first_failed_at)


def test_the_last_one_of_a_split_keeps_the_key_and_the_recipients_that_it_had_alone(conn):
    ids = [insert(conn, body=payload(cc=["no@example.org"])) for _ in range(2)]
    for id_ in ids:
        conn.execute(
            'insert into outboxd.progress (id, generation, frozen) values (%s, 2, \'{"removed": ["no@example.org"]}\')',
            (id_,),
        )
    emails = claim(conn)
    parcel = Parcel(tuple(emails), Batch(uuid4(), b"[{},{}]", HOME))
    batch.repack(conn, emails[0].lease_id, [parcel])
    settle_parcel(conn, parcel, NO)
    (rejected,) = claim_batches(conn)
    parts = repack(conn, rejected.first.lease_id, [rejected], HOME)
    assert [(part.first.generation, part.first.frozen.removed) for part in parts] == [
        (2, ("no@example.org",))
    ] * 2


def test_a_dead_letter_of_a_batch_names_the_account_that_was_asked(conn, connect):
    settle_parcel(conn, batched(conn, connect(), 2), OPEN)
    make_due(conn)
    second = replace(HOME, account="second")
    (moved,) = claim_batches(conn, home=second)
    stopped = judge(moved, second, frozenset(), now=moved.first.claimed_at)
    settle_parcel(conn, moved, stopped.outcome, asked_at=None)
    found = conn.execute("select certainty, frozen ->> 'account' from outboxd.dead_letter").fetchall()
    assert found == [("maybe_accepted", "default")] * 2


def test_a_word_of_cancel_that_came_too_late_does_not_stay_beside_a_dead_letter(conn):
    insert(conn)
    (email,) = claim(conn)
    settle_parcel(conn, Parcel((email,)), NO)
    conn.execute("insert into outboxd.word (id, kind) values (%s, 'cancel')", (email.id,))
    word.apply(conn)
    assert count(conn, "word") == 0


def test_a_member_that_left_its_lease_refuses_its_whole_batch(conn):
    for _ in range(2):
        insert(conn)
    emails = claim(conn)
    settle_parcel(conn, Parcel((emails[0],)), NO)
    parcel = Parcel(tuple(emails), Batch(uuid4(), b"[{},{}]", HOME))
    assert batch.repack(conn, emails[0].lease_id, [parcel]) == set()
    assert count(conn, "batch_member") == 0


def test_who_was_suppressed_before_a_batch_is_split_is_in_none_of_its_parts(conn, connect):
    """Who dies between storing a part and settling its member leaves a request that may have been asked."""
    other = connect()
    whole = batched(conn, other, 9)
    settle_parcel(conn, whole, NO)
    gone = whole.emails[0]
    conn.execute("update outboxd.email set recipients = array['eve@example.org'] where id = %s", (gone.id,))
    conn.execute("select outboxd.suppress('eve@example.org', 'unsubscribe')")
    settler = settler_without_thread()
    leasing = Leasing(Hand(100), settler, settler.admission, uuid4(), HOME, timedelta(seconds=60), bool)
    assert lease_batches(leasing, other, limit=1) == 1
    (stored,) = conn.execute("select array_agg(distinct batch_uid) from outboxd.batch_member").fetchone()
    assert stored == [whole.batch.uid], "the old one, to be taken apart"
    settle(settler, other, [settler.inbox.get()])
    assert {state_of(conn, email.id) for email in whole.emails} == {"ready"}
    assert [email.id for email in claim(conn) if email.suppressed] == [gone.id]
