"""Tenants in turn: however many emails of one delay another's by one claim, and enqueue knows the lanes."""

import json
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from factories import (
    HOME,
    batched,
    claim,
    insert,
    insert_many,
    payload,
    settle_parcel,
    settler_without_thread,
)

from outboxd.core.batch import Parcel
from outboxd.core.outcome import Ambiguous, Failed, Failure, Limited, Returned
from outboxd.db import lease, parking, pause
from outboxd.db.lease import Slot
from outboxd.db.session import Session
from outboxd.delivery import claimer, turns
from outboxd.delivery.binder import Load, held
from outboxd.delivery.claimer import Claimer, _claim_urgent, _fill, _scan_from_head, claim_round
from outboxd.delivery.hand import Hand
from outboxd.delivery.leasing import Leasing

HUNDRED = 100
BULK = """
insert into outboxd.email (type, payload, tenant, queue)
select 'newsletter', jsonb_set(%s::jsonb, '{to}', to_jsonb('r' || n || '@d' || n %% 50 || '.example')), %s, 'marketing'
from generate_series(1, %s) as n
"""


def bulk(conn, tenant: str, emails: int) -> None:
    conn.execute(BULK, (json.dumps(payload()), tenant, emails))


def one(conn, tenant: str) -> int:
    return insert(conn, type="newsletter", tenant=tenant, queue="marketing")


class Daemon:
    """A claimer whose rounds a test makes itself; claims of a hundred, nothing is sent."""

    def __init__(self, conn) -> None:
        settler = settler_without_thread()
        self.conn = conn
        self.hand = Hand(1000)
        self.bound: list[int] = []
        leasing = Leasing(
            self.hand, settler, settler.admission, uuid4(), HOME, timedelta(seconds=60), self.bind
        )
        stop = settler.give_up
        self.claimer = Claimer(
            session=Session("", "claimer", stop=stop),
            bell=None,
            leasing=leasing,
            need=1.0,
            stop=stop,
            fence=None,
        )

    def claim(self) -> list[str]:
        """The tenants of the next claim, in the order in which they would be asked for."""
        turns = self.claimer.leasing.turns
        for _ in range(1000):
            if turns.part(self.conn):
                self.claimer.head_due = 0.0
            self.fill(HUNDRED)
            if ids := self.taken():
                rows = self.conn.execute("select id, tenant from outboxd.email where id = any(%s)", (ids,))
                return list(dict(rows.fetchall()).values())
        raise AssertionError("nothing came")

    def fill(self, room: int) -> None:
        if time.monotonic() >= self.claimer.head_due:
            _scan_from_head(self.claimer, self.conn)
        _fill(self.claimer, self.conn, room)

    def bind(self, load: Load) -> None:
        self.bound += [email.id for group in load.groups for email in group]

    def taken(self) -> list[int]:
        ids = [email.id for held in self.hand._waiting for email in held.parcel.emails] + self.bound
        self.bound = []
        self.hand._waiting.clear()
        self.hand._emails = 0
        return ids


def test_fresh_mail_and_batches_that_are_asked_again_take_turns(conn, connect):
    other = connect()
    for _ in range(20):
        parcel = batched(conn, other, 2)
        settle_parcel(other, parcel, Ambiguous(Failure("ambiguous", "no answer")))
    conn.execute("update outboxd.batch set due_at = clock_timestamp() - interval '1 min'")
    fresh = {insert(conn) for _ in range(600)}
    daemon = Daemon(conn)
    kinds = []
    for _ in range(8):
        daemon.fill(HUNDRED)
        kinds.append(fresh.issuperset(daemon.taken()))
    assert kinds == [False, True] * 4


def failed_before(conn, emails: int) -> set[int]:
    """Emails that were asked for and failed, and are due again."""
    for _ in range(emails):
        insert(conn)
    found = claim(conn, limit=emails)
    for email in found:
        settle_parcel(conn, Parcel((email,)), Failed(Failure("transient", "no")))
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp() - interval '1 min'")
    return {email.id for email in found}


@pytest.mark.parametrize(("retries", "fresh"), [(500, 20), (20, 500)])
def test_fresh_mail_and_what_failed_before_share_every_claim(conn, retries, fresh):
    again = failed_before(conn, retries)
    new = {insert(conn) for _ in range(fresh)}
    daemon = Daemon(conn)
    daemon.fill(HUNDRED)
    first = set(daemon.taken())
    few = again if retries < fresh else new
    assert few < first
    assert len(first) >= HUNDRED // 2 + len(few)


def test_what_a_claim_gives_back_unasked_is_first_again(conn):
    ids = [insert(conn) for _ in range(10)]
    first = claim(conn, limit=3)
    assert [email.id for email in first] == ids[:3]
    for email in reversed(first):
        settle_parcel(conn, Parcel((email,)), Returned(), asked_at=None)
    again = claim(conn, limit=3)
    assert [email.id for email in again] == ids[:3]
    assert [email.scheduled_at for email in again] == [email.scheduled_at for email in first]


def test_suspects_of_a_queue_that_was_paused_after_the_last_look_keep_no_look_away(conn):
    """Each that is claimed is put back, and the next is claimed: the other queue's mail waited for all of them."""
    for _ in range(40):
        insert(conn, queue="marketing")
    conn.execute("update outboxd.ready set lane = -1")
    daemon = Daemon(conn)
    daemon.claimer.fence = SimpleNamespace(admits=lambda _: True)
    _scan_from_head(daemon.claimer, conn)
    conn.execute("select outboxd.pause('queue', 'marketing', 'wrong price')")
    other = insert(conn)
    daemon.claimer.head_due = 0.0
    rounds = 0
    while other not in daemon.taken():
        claim_round(daemon.claimer, conn)
        rounds += 1
        assert rounds < 20, "nobody looked"


def test_looks_for_urgent_mail_that_walk_over_dead_rows_rest_longer(conn, connect, monkeypatch):
    """A transaction keeps vacuum from what was sent: each look walks over all of it, while the hand is full."""
    insert_many(conn, 30_000)
    pin = connect()
    pin.execute("begin isolation level repeatable read")
    pin.execute("select count(*) from outboxd.queue")
    conn.execute("delete from outboxd.ready")
    for _ in range(10):
        insert(conn, queue="marketing")
    daemon = Daemon(conn)
    daemon.claimer.leasing.bind = lambda load: daemon.hand.put(
        held(Parcel((email,)), load.started, 60.0, None) for group in load.groups for email in group
    )
    daemon.claimer.fence = SimpleNamespace(admits=lambda _: True)
    daemon.fill(HUNDRED)
    daemon.hand.pace(1.0)
    looks, rests = [], []
    claim_urgent = claimer._claim_urgent

    def look(*args) -> bool:
        started = time.monotonic()
        found = claim_urgent(*args)
        looks.append(time.monotonic() - started)
        return found

    monkeypatch.setattr(claimer, "URGENT", 0.0)  # the looks cost little on a quick machine
    monkeypatch.setattr(claimer, "_claim_urgent", look)
    monkeypatch.setattr(daemon.hand, "wait_for_room", rests.append)
    for _ in range(5):
        claim_round(daemon.claimer, conn)
    assert len(looks) == len(rests) == 5
    assert all(rest > 3 * took for took, rest in zip(looks, rests, strict=True))


def test_urgent_mail_without_end_is_claimed_no_faster_than_the_hand_empties(conn):
    """As if what is less urgent, and waits in the hand, were not there; and no more."""
    insert(conn, queue="marketing")
    daemon = Daemon(conn)
    daemon.claimer.leasing.bind = lambda load: daemon.hand.expect(sum(map(len, load.groups)))
    daemon.hand.pace(50.0)
    daemon.fill(1)
    insert_many(conn, 2_000)
    _scan_from_head(daemon.claimer, conn)
    for _ in range(50):
        _claim_urgent(daemon.claimer, conn)
    (leased,) = conn.execute("select sum(cardinality(ids))::integer from outboxd.lease").fetchone()
    assert leased == daemon.hand.capacity() + 1


@pytest.mark.parametrize("crowd", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_crowd_of_one_tenant_delays_anothers_by_one_claim(conn, connect, crowd):
    bulk(conn, "crowding", crowd)
    ids = one(conn, "other"), one(conn, "another")
    daemon = Daemon(connect())
    daemon.claimer.leasing.turns.patience = 60.0  # on a busy machine
    first = daemon.claim()
    started = time.monotonic()
    assert set(first) == {"crowding"}
    second = daemon.claim()
    print(f"\nparted in {time.monotonic() - started:.1f} s")
    assert {"other", "another"} <= set(second)
    assert ids


def test_the_next_emails_of_who_crowded_go_into_its_lane_at_once(conn, connect):
    bulk(conn, "crowding", 1_000)
    daemon = Daemon(connect())
    for _ in range(3):
        daemon.claim()
    late, other = one(conn, "crowding"), one(conn, "other")
    found = dict(
        conn.execute("select id, lane from outboxd.ready where id = any(%s)", ([late, other],)).fetchall()
    )
    assert found[other] == 0
    assert conn.execute("select kind, key from outboxd.lane where id = %s", (found[late],)).fetchone() == (
        "tenant", "crowding",
    )  # fmt: skip


def test_many_tenants_that_crowd_share_every_claim(conn, connect):
    for tenant in "abcde":
        bulk(conn, tenant, 2_000)
    daemon = Daemon(connect())
    daemon.claim()
    for _ in range(5):
        claimed = daemon.claim()
        assert {claimed.count(tenant) for tenant in "abcde"} == {HUNDRED // 5}


def test_all_crowds_of_a_queue_are_parted_in_one_pass_that_touches_each_row_once(conn):
    for tenant in "abc":
        bulk(conn, tenant, 300)
    few = [one(conn, f"few{n}") for n in range(30)]
    conn.execute("create table public.touched (n bigint)")
    conn.execute(
        "create function public.note() returns trigger language plpgsql security definer as"
        " $$ begin insert into public.touched select count(*) from rows; return null; end $$"
    )
    conn.execute(
        "create trigger u after update on outboxd.ready referencing new table as rows"
        " for each statement execute function public.note()"
    )
    queue, priority = conn.execute("select queue, priority from outboxd.ready limit 1").fetchone()
    at, seen, moved = Slot(queue, 0, priority), 400, 0
    while seen == 400:
        found = parking.part(conn, at, few=20, limit=400)
        at, seen, moved = found.after, found.seen, moved + found.moved
    assert moved == 900
    assert conn.execute("select sum(n) from public.touched").fetchone() == (900,)
    rows = conn.execute("select id, lane from outboxd.ready").fetchall()
    assert {lane for id_, lane in rows if id_ in few} == {0}
    assert len({lane for _, lane in rows}) == 4


def test_where_nobody_uses_tenants_nothing_is_remembered(conn, connect):
    bulk(conn, "", 300)
    daemon = Daemon(connect())
    for _ in range(3):
        daemon.claim()
    turns = daemon.claimer.leasing.turns
    assert (turns.crowded, len(turns._recent)) == (None, 0)
    assert conn.execute("select count(*) from outboxd.lane").fetchone() == (0,)


def test_tenants_with_few_emails_each_get_no_lanes(conn, connect):
    for n in range(300):
        one(conn, f"t{n}")
    daemon = Daemon(connect())
    for _ in range(3):
        daemon.claim()
    assert conn.execute("select count(*) from outboxd.lane").fetchone() == (0,)


def test_a_claim_that_is_small_finds_the_crowd_too(conn, connect):
    bulk(conn, "crowding", 500)
    late = one(conn, "other")
    daemon = Daemon(connect())
    _scan_from_head(daemon.claimer, daemon.conn)
    taken: list[int] = []
    while late not in taken:
        if daemon.claimer.leasing.turns.part(daemon.conn):
            daemon.claimer.head_due = 0.0
        daemon.fill(3)
        taken += daemon.taken()
    assert len(taken) <= 30, "7 claims of 3 show a crowd of 20"


def look_at(monkeypatch, emails: int) -> None:
    """That many in one statement."""
    monkeypatch.setattr(turns, "MOST", emails)


def claimed_burst(conn) -> Daemon:
    """A tenant's few more than a few, first of all that waits, claimed whole: the slot is crowded."""
    conn.execute("update outboxd.ready set scheduled_at = scheduled_at - interval '1 min' "
        "where id in (select id from outboxd.email where tenant = 'burst')")  # fmt: skip
    daemon = Daemon(conn)
    daemon.fill(turns.FEW)
    assert daemon.claimer.leasing.turns.crowded
    return daemon


@pytest.mark.parametrize("due_in", ["-1 s", "1 day"])
def test_a_burst_that_was_claimed_whole_costs_one_look_that_locks_nothing(conn, monkeypatch, due_in):
    look_at(monkeypatch, 100)
    bulk(conn, "", 300)
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp() + %s::interval", (due_in,))
    bulk(conn, "burst", turns.FEW)
    daemon = claimed_burst(conn)
    conn.execute("vacuum full outboxd.ready")  # who locked or wrote a row before is forgotten
    assert daemon.claimer.leasing.turns.part(conn), "done after one look"
    assert conn.execute("select count(*) from outboxd.ready where xmax <> '0'::xid").fetchone() == (0,)
    assert conn.execute("select count(*) from outboxd.lane").fetchone() == (0,)


def test_what_is_not_due_is_not_parted(conn):
    bulk(conn, "crowding", 30)
    conn.execute("update outboxd.ready set scheduled_at = clock_timestamp() + interval '1 day'")
    (waiting,) = lease.slots(conn, "default")
    assert parking.part(conn, waiting.slot(), few=20, limit=100) == parking.Moved(0, 0, waiting.slot())


def test_the_look_begins_where_the_crowd_was_met(conn, monkeypatch):
    """Before it something may stand that nobody claims from there, and that is no crowd of a tenant."""
    look_at(monkeypatch, 100)
    bulk(conn, "", 300)
    bulk(conn, "crowding", 300)
    daemon = Daemon(conn)
    _scan_from_head(daemon.claimer, conn)
    (before,) = conn.execute("select max(id) from outboxd.email where tenant = ''").fetchone()
    (at,) = conn.execute("select scheduled_at from outboxd.ready where id = %s", (before,)).fetchone()
    daemon.claimer.slots = [replace(slot, after_at=at, after_id=before) for slot in daemon.claimer.slots]
    daemon.fill(HUNDRED)
    while not daemon.claimer.leasing.turns.part(conn):
        pass
    parted = conn.execute("select count(*) from outboxd.ready where lane > 0").fetchone()
    assert parted == (300 - HUNDRED,)


def test_two_daemons_look_on_past_what_the_other_is_parting(conn, connect, monkeypatch):
    look_at(monkeypatch, 100)
    bulk(conn, "crowding", 20 + 100 + 50)
    daemon = Daemon(conn)
    daemon.fill(20)
    other = connect()
    with other.transaction():
        other.execute("select from outboxd.ready order by scheduled_at, id limit 100 for update")
        assert not daemon.claimer.leasing.turns.part(conn), "there is more"
        assert daemon.claimer.leasing.turns.part(conn)
    assert conn.execute("select count(*) from outboxd.ready where lane > 0").fetchone() == (50,)


@pytest.mark.parametrize("kind", ["campaign", "tenant", "type", "queue", "provider_minute"])
def test_what_a_limit_holds_waits_in_its_lane_until_that_opens_and_so_do_new_emails(conn, kind):
    columns = {"campaign": "spring", "tenant": "acme", "queue": "transactional"}
    key = columns.get(kind, {"type": "welcome", "provider_minute": "example.org"}.get(kind))
    first = insert(conn, **columns)
    (email,) = claim(conn)
    free_at = datetime.now(UTC) + timedelta(hours=1)
    settle_parcel(conn, Parcel((email,)), Limited(kind, key, free_at), asked_at=None)
    second = insert(conn, **columns)
    found = dict(conn.execute("select id, lane from outboxd.ready").fetchall())
    assert found[first] == found[second] > 0
    assert all(one.due_in > 3000 for one in lease.slots(conn, "default"))
    (open_,) = lease.slots(conn, "default", now=free_at + timedelta(seconds=1))
    assert open_.due_in < 0


def test_a_new_email_goes_into_the_lane_that_is_closed_longest(conn):
    now = datetime.now(UTC)
    draw = random.Random(7)
    hours = {"campaign": 1, "tenant": 2, "provider": 3}
    keys = {"campaign": "spring", "tenant": "acme", "provider": "example.org"}
    for _ in range(5):
        ids = {}
        for kind in draw.sample(list(hours), 3):
            hours[kind] = draw.randint(1, 1000) * 1000 + len(ids)
            conn.execute("delete from outboxd.lane where kind = %s", (kind,))
            ids[kind] = pause.lane(conn, kind, keys[kind], closed_until=now + timedelta(seconds=hours[kind]))
        id_ = insert(conn, campaign="spring", tenant="acme")
        (lane,) = conn.execute("select lane from outboxd.ready where id = %s", (id_,)).fetchone()
        assert lane == ids[max(hours, key=lambda kind: hours[kind])]


def test_lanes_that_opened_long_ago_take_no_new_emails_but_those_of_tenants(conn):
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    pause.lane(conn, "provider", "example.org", closed_until=long_ago)
    pause.lane(conn, "type", "welcome")
    id_ = insert(conn, tenant="acme")
    assert conn.execute("select lane from outboxd.ready where id = %s", (id_,)).fetchone() == (0,)
    lane = pause.lane(conn, "tenant", "acme", closed_until=long_ago)
    id_ = insert(conn, tenant="acme")
    assert conn.execute("select lane from outboxd.ready where id = %s", (id_,)).fetchone() == (lane,)
