"""Lanes that limits closed: they open when shares come back, and not only when the window has passed."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from factories import (
    HOME,
    batched,
    claim_batches,
    held,
    insert,
    payload,
    settle_parcel,
    settler_without_thread,
    slot,
    state_of,
)
from limiting import DAY, itself
from waiting import until

from outboxd.core.batch import Rise
from outboxd.core.outcome import Ambiguous, Failure, Rejected, Returned, Sent, Throttled
from outboxd.core.retry import Step
from outboxd.db import lease, parking, pause
from outboxd.db.query import query
from outboxd.delivery.admission import Admission
from outboxd.delivery.binder import Binder, bind
from outboxd.delivery.hand import Hand, Held
from outboxd.delivery.leasing import Leasing, lease_emails
from outboxd.delivery.pauses import Pauses
from outboxd.delivery.sender import Result
from outboxd.delivery.settler import Settler, settle

COLUMNS = {"queue": "marketing", "campaign": "spring", "tenant": "acme"}
LIMITED = {
    "provider_minute": "example.org", "provider_day": "example.org", "queue": "marketing", "campaign": "spring",
    "tenant": "acme", "type": "welcome", "account_day": HOME.account, "account_month": HOME.account,
}  # fmt: skip
ENDS = [Rejected(Failure("message", "bad", status=422)), Returned()]


class Daemon:
    """Claims what is open, and settles what a test says; nothing is sent."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.conn = conn
        self.settler: Settler = settler_without_thread()
        self.settler.policies.refresh(conn)
        self.settler.admission = Admission(self.settler.policies, itself)
        self.refused: list[Result] = []

    def claim(self) -> list[Held]:
        """What may go of all that is due in open slots. What limits refuse waits in `refused` to be settled."""
        settler, hand = self.settler, Hand(100)
        binder = Binder(settler.session, hand, settler.report, [].append, 60.0, threading.Event())
        leasing = Leasing(
            hand, settler, settler.admission, uuid4(), HOME, timedelta(seconds=60),
            lambda load: bind(binder, self.conn, load),
        )  # fmt: skip
        wanted = [slot(one.queue, one.lane, one.priority) for one in waiting(self.conn) if one.due_in <= 0]
        while wanted and lease_emails(leasing, self.conn, wanted, 100):
            pass
        while not settler.inbox.empty():
            self.refused.append(settler.inbox.get())
        return hand.close()

    def settle_refused(self) -> None:
        refused, self.refused = self.refused, []
        settle(self.settler, self.conn, refused)

    def settle(self, held: list[Held], outcome: Any) -> None:
        settle(self.settler, self.conn, [Result(one, outcome) for one in held])

    def round(self) -> None:
        """What the reclaimer does each second."""
        self.settler.policies.follow(self.conn, self.settler.policies._version)


def waiting(conn: psycopg.Connection) -> list[lease.Waiting]:
    return lease.slots(conn, HOME.account)


def ids(held: list[Held]) -> set[int]:
    return {email.id for one in held for email in one.parcel.emails}


def limited(conn: psycopg.Connection, kind: str, most: int) -> Daemon:
    """A daemon under one limit of `most` within a day, or a month."""
    conn.execute("update outboxd.limit_rule set most = null")
    conn.execute("insert into outboxd.account (name) values (%s) on conflict do nothing", (HOME.account,))
    starts_on = (datetime.now(UTC) + timedelta(days=9)).day % 28 + 1
    options = {
        "account_month": f'{{"critical_share": 0, "starts_on": {starts_on}}}',
        "account_day": '{"critical_share": 0}',
    }
    conn.execute(
        "insert into outboxd.limit_rule (name, kind, key, most, per, options) values ('ours', %s, %s, %s, %s, %s)",
        (kind, LIMITED[kind], most, DAY, options.get(kind, "{}")),
    )
    return Daemon(conn)


class TestFailover:
    """A standby that lost a lane, and the step of its sequence, gives the lane's id to another."""

    PARK = ("retries", "")

    def lanes(self, pauses: Pauses, conn: psycopg.Connection) -> dict[tuple[str, str], int]:
        return dict(pauses.lanes(conn, [Step("again", 1, ambiguous=False, park=self.PARK)]))

    def lose(self, conn: psycopg.Connection) -> int:
        """The lane that has the lost one's id now."""
        conn.execute("delete from outboxd.lane")
        conn.execute("alter table outboxd.lane alter column id restart")
        return pause.lane(conn, "tenant", "acme")

    @pytest.mark.parametrize("pooled", [False, True])
    def test_what_failed_does_not_wait_in_a_lane_that_has_its_id_now(self, conn, connect, pooled):
        risen: list[Rise] = []
        pauses = Pauses(HOME.account, rise=lambda: risen[-1] if risen else None)
        before = self.lanes(pauses, conn)
        assert self.lanes(pauses, conn) == before
        assert self.lose(conn) == before[self.PARK]
        risen += [Rise(datetime.now(UTC), 1)] if pooled else []
        after = self.lanes(pauses, conn if pooled else connect())
        assert (
            conn.execute("select kind, key from outboxd.lane where id = %s", (after[self.PARK],)).fetchone()
            == self.PARK
        )


@pytest.mark.parametrize("outcome", ENDS, ids=["rejected", "returned"])
@pytest.mark.parametrize("kind", LIMITED)
def test_shares_that_come_back_open_the_lane_that_was_closed_for_want_of_them(conn, kind, outcome):
    daemon = limited(conn, kind, most=4)
    for _ in range(7):
        insert(conn, **COLUMNS)
    going = daemon.claim()
    daemon.settle_refused()
    assert len(ids(going)) == 4
    assert min(one.due_in for one in waiting(conn)) > 3000, "closed until the window has passed"
    daemon.settle(going, outcome)
    assert max(one.due_in for one in waiting(conn)) <= 0
    assert len(ids(daemon.claim())) == min(4, 7 - (4 if isinstance(outcome, Rejected) else 0))


def test_a_refusal_of_before_that_closes_the_lane_after_the_shares_came_back_holds_for_a_round_or_two(conn):
    daemon = limited(conn, "provider_day", most=4)
    for _ in range(7):
        insert(conn, **COLUMNS)
    going = daemon.claim()
    daemon.settle(going, ENDS[0])
    daemon.round()
    daemon.settle_refused()
    assert daemon.claim() == []
    daemon.round()
    assert len(ids(daemon.claim())) == 3
    closed = "update outboxd.lane set closed_until = 'infinity' returning closed_until::text"
    assert conn.execute(closed).fetchone() == ("infinity",)
    for _ in range(3):
        daemon.round()
    assert conn.execute("select closed_until::text from outboxd.lane").fetchone() == ("infinity",)


def test_a_lane_stays_closed_where_another_of_its_limits_has_no_room(conn):
    daemon = limited(conn, "provider_day", most=4)
    conn.execute(
        "insert into outboxd.limit_rule (name, kind, key, most, per) values"
        " ('minute', 'provider_minute', 'example.org', 4, '1 min')"
    )
    daemon.settler.policies.refresh(conn)
    for _ in range(7):
        insert(conn, **COLUMNS)
    going = daemon.claim()
    daemon.settle_refused()
    conn.execute("update outboxd.window_count set n = array[9] where kind = 'provider_day'")
    daemon.settle(going, ENDS[0])
    assert min(one.due_in for one in waiting(conn)) > 3000


def test_a_lane_that_nobody_lacks_a_share_of_is_not_written(conn):
    daemon = limited(conn, "provider_day", most=4)
    until = datetime.now(UTC) + timedelta(hours=1)
    others = [
        pause.lane(conn, "provider", "other.example", closed_until=until),
        pause.lane(conn, "tenant", "acme", closed_until=until),
    ]
    opened = pause.lane(conn, "provider", "example.org")
    before = conn.execute("select id, xmin::text, closed_until from outboxd.lane order by id").fetchall()
    insert(conn, **COLUMNS | {"tenant": None})
    daemon.settle(daemon.claim(), ENDS[0])
    after = conn.execute("select id, xmin::text, closed_until from outboxd.lane order by id").fetchall()
    assert [row[0] for row in before] == [*others, opened]
    assert after == before


def test_daemons_that_sleep_hear_of_a_lane_that_opened(conn, connect):
    daemon = limited(conn, "provider_day", most=4)
    for _ in range(5):
        insert(conn, **COLUMNS)
    going = daemon.claim()
    daemon.settle_refused()
    listener = connect()
    listener.execute("listen outboxd")
    daemon.settle(going, ENDS[0])
    assert list(listener.notifies(timeout=10, stop_after=1))


@pytest.mark.parametrize("opens", ["lane/open", "lane/reopen"])
def test_lanes_are_locked_in_one_order_by_all_who_open_them(conn, connect, opens):
    until_then = datetime.now(UTC) + timedelta(hours=1)
    for kind, key in (("tenant", "acme"), ("provider", "example.org"), ("campaign", "spring")):
        pause.lane(conn, kind, key, closed_until=until_then)
    values = {
        "now": None,
        "kinds": ["tenant", "provider_day", "campaign"],
        "keys": ["acme", "example.org", "spring"],
    }
    first, opening = connect(), connect()
    lock = "select from outboxd.lane where kind = %s for update nowait"
    with ThreadPoolExecutor(1) as pool, first.transaction():
        first.execute(lock, ("campaign",))
        done = pool.submit(opening.execute, query(opens), values)
        waits = "select from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
        until(
            lambda: conn.execute(waits, (opening.info.backend_pid,)).fetchone() is not None, what="it to wait"
        )
        for kind in ("provider", "tenant"):
            assert conn.execute(lock, (kind,)).fetchone() is not None
    done.result()
    assert conn.execute("select from outboxd.lane where closed_until > clock_timestamp()").fetchone() is None


def test_what_a_tenant_s_limit_exempts_goes_while_its_lane_is_closed_also_where_it_waited_before(conn):
    daemon = limited(conn, "tenant", most=4)
    conn.execute(
        """update outboxd.limit_rule set options = '{"exempt_types": ["reset"]}' where name = 'ours'"""
    )
    daemon.settler.policies.refresh(conn)
    for _ in range(7):
        insert(conn, **COLUMNS)
    before = insert(conn, type="reset", **COLUMNS)
    (one,) = waiting(conn)
    assert parking.part(conn, one.slot(), few=2, limit=100).moved == 8
    pause.lane(conn, "tenant", "acme", closed_until=datetime.now(UTC) + timedelta(hours=2))
    assert ids(daemon.claim()) == {before}
    late = insert(conn, type="reset", **COLUMNS)
    assert ids(daemon.claim()) == {late}
    assert [one.due_in > 3000 for one in waiting(conn)] == [True]


class TestViews:
    def status(self, conn: psycopg.Connection) -> tuple[Any, ...]:
        row = conn.execute(
            "select ready, blocked, scheduled, retrying, oldest_due_seconds from outboxd.queue_status where queue = 'marketing'"
        ).fetchone()
        assert row is not None
        return row

    def test_what_is_due_in_a_lane_that_a_limit_closed_is_blocked_and_not_ready_until_it_opens(self, conn):
        daemon = limited(conn, "provider_day", most=4)
        held = [insert(conn, **COLUMNS) for _ in range(5)][-1]
        going = daemon.claim()
        daemon.settle_refused()
        daemon.settle(going, Sent("re_1"))
        conn.execute("update outboxd.ready set scheduled_at = scheduled_at - interval '1 h'")
        later = insert(conn, **COLUMNS, scheduled_at=datetime.now(UTC) + timedelta(hours=1))
        assert (state_of(conn, held), state_of(conn, later)) == ("blocked", "scheduled")
        assert self.status(conn) == (0, 1, 1, 0, 0)
        free = insert(conn, **COLUMNS, body=payload(to="eve@other.example"))
        assert state_of(conn, free) == "ready"
        ready, blocked, *_, oldest = self.status(conn)
        assert (ready, blocked) == (1, 1)
        assert 0 < oldest < 3600, "of what may go"
        conn.execute("update outboxd.lane set closed_until = clock_timestamp()")
        assert state_of(conn, held) == "ready"
        assert self.status(conn)[:3] == (2, 0, 1)
        assert self.status(conn)[-1] >= 3600

    def test_a_batch_in_a_lane_that_a_limit_closed_is_blocked_and_has_no_age_until_it_opens(
        self, conn, connect
    ):
        parcel = batched(conn, connect(), 2)
        settle_parcel(conn, parcel, Throttled(Failure("throttle", "429"), timedelta()))
        lane = pause.lane(conn, "tenant", "acme", closed_until=datetime.now(UTC) + timedelta(hours=1))
        conn.execute(
            "update outboxd.batch set queue = 3, lane = %s, due_at = clock_timestamp() - interval '1 h'",
            (lane,),
        )
        assert {state_of(conn, email.id) for email in parcel.emails} == {"blocked"}
        assert self.status(conn) == (0, 2, 0, 0, 0)
        conn.execute("update outboxd.lane set closed_until = clock_timestamp()")
        assert {state_of(conn, email.id) for email in parcel.emails} == {"ready"}
        assert self.status(conn)[:4] == (2, 0, 0, 0)
        assert self.status(conn)[-1] >= 3600

    def test_a_lane_that_is_paused_and_closed_by_a_limit_counts_once(self, conn):
        until = datetime.now(UTC) + timedelta(hours=1)
        pause.lane(conn, "campaign", "spring", closed_until=until)
        ids_ = [insert(conn, **COLUMNS) for _ in range(3)]
        conn.execute("select outboxd.pause('campaign', 'spring', 'why')")
        assert {state_of(conn, id_) for id_ in ids_} == {"blocked"}
        assert self.status(conn)[:2] == (0, 3)
        conn.execute("select outboxd.resume('campaign', 'spring')")
        assert self.status(conn)[:2] == (0, 3)


def test_a_batch_that_a_limit_holds_does_not_open_its_own_lane_with_what_its_other_members_give_back(
    conn, connect
):
    parcel = batched(conn, connect(), 4)
    settle_parcel(conn, parcel, Ambiguous(Failure("ambiguous", "no answer")))
    conn.execute("update outboxd.batch set due_at = clock_timestamp()")
    rule = {"kind": "queue", "key": "transactional", "most": 2, "per": "1 d"}
    conn.execute("select outboxd.set_limit('few', %s)", (json.dumps(rule),))
    (again,) = claim_batches(connect())
    settler = settler_without_thread()
    settler.policies.refresh(conn)
    _, [(partly, stopped)] = settler.admission.grant(conn, [again])
    assert [email.grant.at is None for email in partly.emails] == [False, False, True, True]
    settle(settler, conn, [Result(held(*partly.emails, batch=partly.batch), stopped.outcome)])
    for _ in range(3):
        settler.policies.follow(conn, settler.policies._version)
    assert conn.execute(
        "select closed_until > clock_timestamp() + interval '1 h' from outboxd.lane where kind = 'queue'"
    ).fetchone() == (True,)


def test_a_limit_that_was_removed_while_no_daemon_ran_holds_nothing(conn):
    daemon = limited(conn, "provider_day", most=1)
    for _ in range(3):
        insert(conn, **COLUMNS)
    going = daemon.claim()
    daemon.settle_refused()
    assert (len(ids(going)), daemon.claim()) == (1, []), "the lane is closed for a day"
    conn.execute("select outboxd.set_limit('ours', null)")
    fresh = Daemon(conn)
    fresh.settler.policies.follow(conn, lease.any_expired(conn)[1])
    assert len(ids(fresh.claim())) == 2


def test_lanes_are_opened_at_a_start_though_the_first_try_fails(conn, connect):
    daemon = limited(conn, "provider_day", most=1)
    for _ in range(3):
        insert(conn, **COLUMNS)
    daemon.claim()
    daemon.settle_refused()
    conn.execute("select outboxd.set_limit('ours', null)")
    fresh, other = Daemon(conn), connect()
    conn.execute("set lock_timeout = '20 ms'")
    with other.transaction():
        other.execute("select from outboxd.lane for update")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            fresh.settler.policies.follow(conn, lease.any_expired(conn)[1])
    fresh.settler.policies.follow(conn, lease.any_expired(conn)[1])
    assert len(ids(fresh.claim())) == 2


def test_a_provider_that_is_suspended_for_ever_stops_its_own_mail_alone(conn):
    """No Python date is infinity: a claim that answered so would fail, again and again, with all that it had leased."""
    conn.execute(
        "insert into outboxd.provider_override (provider, suspended_until, reason, who) "
        "values ('example.org', 'infinity', 'deferrals', 'ada')"
    )
    daemon = Daemon(conn)
    held_back = insert(conn, **COLUMNS)
    other = insert(conn, body=payload(to="eve@other.example"))
    gates = conn.execute(
        "select gate, free_at from outboxd.explain((select uid from outboxd.email where id = %s)) where holds",
        (held_back,),
    ).fetchall()
    assert gates == [("provider_minute limit", None)]
    assert ids(daemon.claim()) == {other}
    daemon.settle_refused()
    assert daemon.claim() == []
    conn.execute("delete from outboxd.provider_override")
    daemon.settler.policies.follow(conn, lease.any_expired(conn)[1])
    assert ids(daemon.claim()) == {held_back}


def test_what_a_suspended_provider_holds_that_was_in_hand_opens_the_lane_of_its_campaign_and_not_its_own(
    conn,
):
    daemon = limited(conn, "campaign", most=4)
    for _ in range(4):
        insert(conn, **COLUMNS)
    others = {insert(conn, **COLUMNS, body=payload(to="eve@other.example")) for _ in range(3)}
    going = daemon.claim()
    daemon.settle_refused()
    assert len(ids(going)) == 4
    conn.execute(
        "insert into outboxd.provider_override (provider, suspended_until, reason, who)"
        " values ('example.org', clock_timestamp() + interval '5 min', 'bounces', 'ada')"
    )
    daemon.settler.policies.refresh(conn)
    _, refused = daemon.settler.admission.grant(conn, [one.parcel for one in going])
    by = {parcel.first.id: stopped for parcel, stopped in refused}
    settle(daemon.settler, conn, [Result(one, by[one.parcel.first.id].outcome) for one in going])
    for _ in range(3):
        daemon.round()
    assert ids(daemon.claim()) == others
    assert conn.execute(
        "select closed_until > clock_timestamp() from outboxd.lane where kind = 'provider'"
    ).fetchone() == (True,)
