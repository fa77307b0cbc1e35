"""Batches where two things meet: a lost answer and a pending commit, a long pause and a time-out, a changed account."""

import threading
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from factories import HOME, batched, claim, claim_batches, insert, payload, settle_parcel, uid_of
from waiting import until

from outboxd.core.batch import Batch, Parcel
from outboxd.core.outcome import Ambiguous, Failed, Failure, Rejected, Returned, Throttled
from outboxd.db import batch, lease, word
from outboxd.db.query import query
from outboxd.delivery.gates import judge
from outboxd.delivery.packer import repack

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


def test_a_word_of_cancel_that_came_too_late_does_not_stay_beside_a_dead_letter(conn):
    insert(conn)
    (email,) = claim(conn)
    settle_parcel(conn, Parcel((email,)), NO)
    conn.execute("insert into outboxd.word (id, kind) values (%s, 'cancel')", (email.id,))
    word.apply(conn)
    assert count(conn, "word") == 0

