"""Batches in Postgres: stored under a lease, kept whole while an answer is open, taken apart only when it is certain."""

import json
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
    held,
    insert,
    settle_parcel,
    settler_without_thread,
    state_of,
    uid_of,
)

from outboxd.core.batch import Batch, Parcel, Rise
from outboxd.core.outcome import (
    Ambiguous,
    Cancelled,
    Failed,
    Failure,
    Limited,
    Rejected,
    Returned,
    SentAll,
    Throttled,
)
from outboxd.db import batch, lease, pause
from outboxd.db.pause import Probe
from outboxd.delivery.binder import Binder, Load, bind
from outboxd.delivery.gates import judge
from outboxd.delivery.hand import Hand
from outboxd.delivery.packer import repack
from outboxd.delivery.sender import Result
from outboxd.delivery.settler import settle

OPEN = Ambiguous(Failure("ambiguous", "time-out"))
NO = Rejected(Failure("message", "Invalid `to` field.", "validation_error", 422))
GONE, SOON = timedelta(seconds=-1), timedelta(minutes=1)


def sent(parcel) -> SentAll:
    return SentAll(tuple(str(uuid4()) for _ in parcel.emails))


def counts(conn) -> dict[str, int]:
    tables = ("ready", "lease", "batch", "batch_member", "delivery", "dead_letter", "progress")
    return {
        table: number
        for table in tables
        if (number := conn.execute(f"select count(*) from outboxd.{table}").fetchone()[0])
    }


def make_due(conn) -> None:
    conn.execute(
        "update outboxd.batch set due_at = clock_timestamp() - interval '1 s' where due_at is not null"
    )


def last_ambiguous(conn, ago: str) -> None:
    conn.execute("update outboxd.batch set last_ambiguous_at = clock_timestamp() - %s::interval", (ago,))


def test_an_accepted_batch_leaves_nothing_but_its_deliveries(conn, connect):
    parcel = batched(conn, connect(), 3)
    answer = sent(parcel)
    settle_parcel(conn, parcel, answer)
    assert counts(conn) == {"delivery": 3}
    found = conn.execute("select id, provider_id from outboxd.delivery order by id").fetchall()
    assert found == [(email.id, id_) for email, id_ in zip(parcel.emails, answer.provider_ids, strict=True)]


@pytest.mark.parametrize(
    "outcome",
    [
        Ambiguous(OPEN.failure, SOON),
        Failed(Failure("transient", "refused"), SOON),
        Throttled(Failure("throttle", "429"), SOON),
    ],
    ids=["open", "failed", "throttled"],
)
def test_what_is_not_decided_comes_back_as_the_same_bytes_in_the_same_order(conn, connect, outcome):
    parcel = batched(conn, connect(), 5)
    assert settle_parcel(conn, parcel, outcome)
    assert counts(conn) == {"batch": 1, "batch_member": 5}
    assert {state_of(conn, email.id) for email in parcel.emails} == {"retrying"}
    make_due(conn)
    (again,) = claim_batches(connect())
    assert (again.batch.uid, again.batch.body, again.batch.key) == (
        parcel.batch.uid,
        parcel.batch.body,
        parcel.batch.key,
    )
    assert [email.id for email in again.emails] == [email.id for email in parcel.emails]
    assert again.batch.ambiguous == isinstance(outcome, Ambiguous)
    assert again.batch.attempts == (0 if isinstance(outcome, Throttled) else 1)
    assert {state_of(conn, email.id) for email in parcel.emails} == {"sending"}


def test_storing_is_refused_once_the_lease_is_lost(conn, connect):
    daemon = connect()
    for _ in range(2):
        insert(conn)
    emails = claim(daemon, ttl=GONE)
    lease.reclaim(conn, crash_limit=0)
    parcel = Parcel(tuple(emails), Batch(uuid4(), b"[]", HOME))
    assert batch.repack(daemon, emails[0].lease_id, [parcel]) == set()
    assert counts(conn) == {"ready": 2, "progress": 2}


def test_a_member_of_an_open_batch_travels_in_no_other_request(conn, connect):
    parcel = batched(conn, connect(), 2)
    settle_parcel(conn, parcel, OPEN)
    conn.execute(
        "insert into outboxd.ready (id, queue, priority, scheduled_at) values (%s, 1, 1, now())",
        (parcel.first.id,),
    )
    (email,) = claim(connect())
    assert email.ended
    conn.execute("select outboxd.rebuild_ready(0, 1000)")
    assert counts(conn)["batch_member"] == 2
    assert "ready" not in counts(conn)


def test_a_reclaimed_batch_counts_as_asked_and_is_one_suspect(conn, connect):
    parcel = batched(conn, connect(), 3, ttl=GONE)
    assert [one.taken for one in lease.reclaim(conn, crash_limit=3)] == ["kept"] * 3
    assert claim_batches(conn) == []
    (again,) = claim_batches(conn, streaks=(1, 1))
    assert (again.batch.crash_streak, again.batch.ambiguous, again.lane) == (1, True, -1)
    assert again.batch.body == parcel.batch.body


def test_the_third_crash_quarantines_a_batch_as_unknown(conn, connect):
    batched(conn, connect(), 3, ttl=GONE)
    taken = []
    for streak in range(1, 4):
        taken.append({one.taken for one in lease.reclaim(conn, crash_limit=3)})
        if streak < 3:
            assert len(claim_batches(conn, streaks=(streak, streak), ttl=GONE)) == 1
    assert taken == [{"kept"}, {"kept"}, {"unknown"}]
    assert counts(conn) == {"dead_letter": 3}


def test_a_rejected_batch_is_split_into_quarters_under_new_keys(conn, connect):
    parcel = batched(conn, connect(), 9)
    settle_parcel(conn, parcel, NO)
    (rejected,) = claim_batches(conn)
    assert rejected.batch.rejected
    quarters = repack(conn, rejected.first.lease_id, [rejected], HOME)
    assert [len(part.emails) for part in quarters] == [2, 2, 2, 3]
    assert len({part.batch.key for part in quarters} | {parcel.batch.key}) == 5
    items = [item for part in quarters for item in json.loads(part.batch.body)]
    assert items == json.loads(parcel.batch.body)
    assert counts(conn) == {"lease": 1, "batch": 4, "batch_member": 9}


def test_good_emails_of_a_claim_are_in_hand_before_the_ones_that_cannot_be_rendered_are_settled(conn):
    for _ in range(3):
        insert(conn)
    bad = insert(conn)
    conn.execute("update outboxd.email set payload = '{}' where id = %s", (bad,))
    emails = claim(conn)
    hand, found_in_hand = Hand(20), []
    session = settler_without_thread().session
    binder = Binder(
        session, hand, lambda _: found_in_hand.append(hand.waiting()), [].append, 60.0, threading.Event()
    )
    bind(binder, conn, Load(emails[0].lease_id, [emails], 0.0))
    assert found_in_hand == [3]


def test_a_cancelled_member_takes_an_unasked_batch_apart_and_the_others_go_on(conn, connect):
    parcel = batched(conn, connect(), 3)
    settle_parcel(conn, parcel, Throttled(Failure("throttle", "429"), timedelta()))
    victim = parcel.emails[1].id
    assert conn.execute("select outboxd.cancel(%s)", (uid_of(conn, victim),)).fetchone() == (False,)
    make_due(conn)
    (again,) = claim_batches(conn)
    stopped = judge(again, HOME, frozenset(), now=again.first.claimed_at)
    assert stopped.members == (Returned(), Cancelled(), Returned())
    settle_parcel(conn, again, stopped.outcome, asked_at=None, members=stopped.members)
    assert counts(conn) == {"ready": 2, "delivery": 1}
    assert state_of(conn, victim) == "cancelled"


def test_a_cancelled_member_leaves_a_batch_with_an_open_answer_whole(conn, connect):
    parcel = batched(conn, connect(), 3)
    settle_parcel(conn, parcel, OPEN)
    conn.execute("select outboxd.cancel(%s)", (uid_of(conn, parcel.emails[1].id),))
    make_due(conn)
    (again,) = claim_batches(conn)
    assert judge(again, HOME, frozenset(), now=again.first.claimed_at) is None
    settle_parcel(conn, again, sent(again))
    assert counts(conn) == {"delivery": 3}


def test_an_open_batch_is_unknown_at_another_account_and_after_23_hours(conn, connect):
    parcel = batched(conn, connect(), 2)
    settle_parcel(conn, parcel, OPEN)
    make_due(conn)
    (again,) = claim_batches(conn)
    from dataclasses import replace

    elsewhere = replace(HOME, account="second")
    assert (
        judge(again, elsewhere, frozenset(), now=again.first.claimed_at).outcome.failure.kind
        == "account_changed"
    )
    late = again.batch.first_asked_at + timedelta(hours=23)
    stopped = judge(again, HOME, frozenset(), now=late)
    assert stopped.outcome.failure.kind == "key_expired"
    settle_parcel(conn, again, stopped.outcome, asked_at=None)
    assert counts(conn) == {"dead_letter": 2}
    assert {state_of(conn, email.id) for email in parcel.emails} == {"unknown"}


def test_handing_back_returns_a_stored_batch_whole_and_unasked(conn, connect):
    parcel = batched(conn, connect(), 3)
    assert lease.hand_back(conn, parcel.first.lease_id) == 3
    assert counts(conn) == {"batch": 1, "batch_member": 3}
    (again,) = claim_batches(conn)
    assert (again.batch.ambiguous, again.batch.crash_streak) == (False, 0)


def test_a_lost_lease_of_a_batch_changes_nothing_but_leaves_its_evidence(conn, connect):
    parcel = batched(conn, connect(), 3, ttl=GONE)
    lease.reclaim(conn, crash_limit=0)
    settle_parcel(conn, parcel, NO)
    assert counts(conn) == {"batch": 1, "batch_member": 3}
    settle_parcel(conn, parcel, sent(parcel))
    (again,) = claim_batches(conn)
    stopped = judge(again, HOME, frozenset(), now=again.first.claimed_at)
    assert isinstance(stopped.outcome, SentAll)
    settle_parcel(conn, again, stopped.outcome, asked_at=None)
    assert counts(conn) == {"delivery": 3}


class TestRule21LateFirstAsk:
    def ambiguous(self, conn, connect):
        parcel = batched(conn, connect(), 4)
        settle_parcel(conn, parcel, OPEN)
        make_due(conn)
        (again,) = claim_batches(connect())
        return again

    def test_a_rejection_soon_after_an_open_answer_is_asked_again_whole(self, conn, connect):
        again = self.ambiguous(conn, connect)
        settle_parcel(conn, again, NO)
        rejected, ambiguous, due_in = conn.execute(
            "select rejected, ambiguous, due_at - clock_timestamp() from outboxd.batch"
        ).fetchone()
        assert (rejected, ambiguous) == (False, True)
        assert timedelta(seconds=55) < due_in <= timedelta(seconds=61)

    def test_a_rejection_a_minute_after_it_splits(self, conn, connect):
        self.ambiguous(conn, connect)
        conn.execute("update outboxd.batch set due_at = clock_timestamp()")
        conn.execute("delete from outboxd.lease")
        last_ambiguous(conn, "61 s")
        (again,) = claim_batches(conn)
        settle_parcel(conn, again, NO)
        assert conn.execute("select rejected from outboxd.batch").fetchone() == (True,)


def test_an_open_batch_that_a_limit_holds_gives_back_what_its_other_members_were_granted(conn, connect):
    """Else it holds itself: each time a part of it is granted, and counts until after the next time it asks."""
    parcel = batched(conn, connect(), 4)
    settle_parcel(conn, parcel, OPEN)
    make_due(conn)
    (again,) = claim_batches(connect())
    rule = {"kind": "queue", "key": "transactional", "most": 5, "per": "1 min"}
    conn.execute("select outboxd.set_limit('few', %s)", (json.dumps(rule),))
    conn.execute(
        "insert into outboxd.window_count (kind, key, at, n, most, per, stale_at)"
        " values ('queue', 'transactional', array[clock_timestamp()], '{3}', 5, '1 min', 'infinity')"
    )
    used = "select (select sum(unnest)::int from unnest(n)) from outboxd.window_count where kind = 'queue'"
    settler = settler_without_thread()
    settler.policies.refresh(conn)
    go, [(partly, stopped)] = settler.admission.grant(conn, [again])
    assert (go, stopped.outcome.kind, [email.grant.at is None for email in partly.emails]) == (
        [],
        "queue",
        [False, False, True, True],
    )
    assert conn.execute(used).fetchone() == (5,)
    for _ in range(2):  # the second time as after a lost connection: it was given back already
        settle(settler, conn, [Result(held(*partly.emails, batch=partly.batch), stopped.outcome)])
        assert conn.execute(used).fetchone() == (3,)
    # Their mailboxes keep their share: of the ask that is open it may be the only one.
    assert conn.execute("select sum(cardinality(emails)) from outboxd.recipient_count").fetchone() == (2,)


def test_a_paused_queue_or_account_leaves_batches_alone_and_a_probe_passes_the_accounts_pause_only(
    conn, connect
):
    parcel = batched(conn, connect(), 2)
    settle_parcel(conn, parcel, Throttled(Failure("throttle", "429"), timedelta()))
    make_due(conn)
    conn.execute("select outboxd.pause('queue', 'transactional', 'test')")
    assert claim_batches(conn) == []
    assert [(one.closed, one.due_in <= 0) for one in batch.waiting(conn, "default")] == [(True, True)]
    assert claim_batches(conn, probe=Probe("account", "default", "key")) == []
    conn.execute(
        "select outboxd.resume('queue', 'transactional'), outboxd.pause('account', 'default', 'test')"
    )
    assert claim_batches(conn) == []
    assert len(claim_batches(conn, probe=Probe("account", "default", "key"))) == 1


def test_a_batch_in_hand_is_one_parcel(conn, connect):
    parcel = batched(conn, connect(), 3)
    assert len(held(*parcel.emails, batch=parcel.batch).parcel.emails) == 3


class TestOneThatALimitHolds:
    """Without an open answer: five emails, of which two were granted."""

    REFUSED = Failed(Failure("transient", "refused"))

    def again(self, conn, connect, *, outcome=REFUSED, to="reader-{n}@example.org", **rule):
        """The batch as it is claimed again, and a settler to which the rule is new."""
        settle_parcel(conn, batched(conn, connect(), 5, to=to), outcome)
        make_due(conn)
        (parcel,) = claim_batches(connect())
        name = "recipient" if rule["kind"] == "recipient" else "few"
        conn.execute("select outboxd.set_limit(%s, %s)", (name, json.dumps({"per": "1 h", "most": 2} | rule)))
        settler = settler_without_thread()
        settler.policies.refresh(conn)
        return parcel, settler

    def settled(self, conn, settler, parcel):
        go, [(partly, stopped)] = settler.admission.grant(conn, [parcel])
        assert go == []
        told = Result(held(*partly.emails, batch=partly.batch), stopped.outcome, members=stopped.members)
        settle(settler, conn, [told])
        return [type(one) for one in stopped.members]

    @pytest.mark.parametrize("outcome", [REFUSED, Throttled(Failure("throttle", "429"), timedelta())])
    @pytest.mark.parametrize(
        ("kind", "key", "to"),
        [
            ("queue", "transactional", "reader-{n}@example.org"),
            ("provider_minute", "example.org", "reader-{n}@example.org"),
            ("recipient", None, "ada@example.org"),
        ],
    )
    def test_it_is_taken_apart_where_it_is_more_than_a_lowered_limit_allows(
        self, conn, connect, outcome, kind, key, to
    ):
        parcel, settler = self.again(conn, connect, outcome=outcome, to=to, kind=kind, key=key)
        assert self.settled(conn, settler, parcel) == [Returned] * 2 + [Limited] * 3
        assert "batch" not in counts(conn)
        burned = isinstance(outcome, Failed)
        kept = conn.execute("select attempts, held = '{}' from outboxd.progress order by id").fetchall()
        assert kept == ([(1, place < 2) for place in range(5)] if burned else [])
        fresh = [Parcel((email,)) for email in claim(connect())]
        go, _ = settler.admission.grant(conn, fresh)
        assert [one.first.id for one in go] == [email.id for email in parcel.emails[:2]]

    def test_what_others_left_of_its_own_lane_s_limit_is_used_at_once(self, conn, connect):
        parcel, settler = self.again(conn, connect, kind="provider_minute", key="example.org")
        lane = pause.lane(conn, "provider", "example.org")
        parcel = replace(parcel, emails=tuple(replace(email, lane=lane) for email in parcel.emails))
        self.settled(conn, settler, parcel)
        assert conn.execute("select distinct lane from outboxd.ready").fetchall() == [(lane,)]
        assert {state_of(conn, email.id) for email in parcel.emails} == {"ready"}

    def test_it_waits_whole_where_the_limit_has_room_for_it_later(self, conn, connect):
        parcel, settler = self.again(conn, connect, kind="queue", key="transactional", most=5)
        conn.execute(
            "insert into outboxd.window_count (kind, key, at, n, most, per, stale_at)"
            " values ('queue', 'transactional', array[clock_timestamp()], '{3}', 5, '1 h', 'infinity')"
        )
        assert self.settled(conn, settler, parcel) == []
        assert (counts(conn)["batch"], {state_of(conn, one.id) for one in parcel.emails}) == (1, {"blocked"})

    def test_it_is_taken_apart_where_a_provider_is_slowed(self, conn, connect):
        parcel, settler = self.again(conn, connect, kind="provider_minute", key="example.org", most=5)
        conn.execute(
            "insert into outboxd.provider_override (provider, rate_factor, reason, who)"
            " values ('example.org', 0.4, 'x', 'test')"
        )
        settler.policies.refresh(conn)
        assert self.settled(conn, settler, parcel) == [Returned] * 2 + [Limited] * 3

    def test_it_waits_whole_while_a_failover_may_hide_an_ask(self, conn, connect):
        parcel, settler = self.again(conn, connect, kind="queue", key="transactional")
        rise = Rise(parcel.first.claimed_at, last_id=parcel.emails[-1].id)
        settler.admission = replace(settler.admission, rise=lambda: rise)
        assert self.settled(conn, settler, parcel) == []
