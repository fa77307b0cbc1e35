"""Types that a limit exempts do not wait for it, wherever a pause, a suspension or an older limit had put them."""

import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from factories import HOME, insert, settler_without_thread
from limiting import itself
from test_lanes import COLUMNS, limited

from outboxd.core.email import Frozen
from outboxd.core.outcome import Sent
from outboxd.db import lease, pause
from outboxd.delivery import exempt
from outboxd.delivery.admission import Admission
from outboxd.delivery.binder import Binder, bind
from outboxd.delivery.hand import Hand
from outboxd.delivery.leasing import Leasing, lease_emails
from outboxd.delivery.settler import settle

RESET = '{"exempt_types": ["reset"]}'
MANY = 300
KEYS = {"provider_day": ("provider", "example.org"), "campaign": ("campaign", "spring")}


class Going:
    """A daemon that claims as one does, at most ten of a lane that closed within a minute, and remembers what it saw."""

    def __init__(self, conn: psycopg.Connection, home: Frozen = HOME) -> None:
        self.conn, self.home, self.settler = conn, home, settler_without_thread()
        self.settler.admission = Admission(self.settler.policies, itself)
        self.hand = Hand(1000)
        binder = Binder(
            self.settler.session, self.hand, self.settler.report, [].append, 60.0, threading.Event()
        )
        self.leasing = Leasing(
            self.hand, self.settler, self.settler.admission, uuid4(), home, timedelta(seconds=60),
            lambda load: bind(binder, conn, load),
        )  # fmt: skip
        self.follow()

    def follow(self) -> None:
        self.settler.policies.follow(self.conn, lease.any_expired(self.conn)[1])

    def round(self) -> set[int]:
        """What goes by one claim, once policy is followed, and what is refused is settled; nothing is sent."""
        self.follow()
        self.leasing.shut.clear()
        wanted = [
            replace(one.slot(), most=one.most)
            for one in lease.slots(self.conn, self.home.account)
            if one.due_in <= 0 and not one.closed
        ]
        if wanted:
            lease_emails(self.leasing, self.conn, wanted, 100)
        refused = [self.settler.inbox.get() for _ in range(self.settler.inbox.qsize())]
        if refused:
            settle(self.settler, self.conn, refused)
        while (rest := self.leasing.rest()) is not None and rest < 1:
            self.leasing.move(self.conn)
        return {email.id for held in self.taken() for email in held.parcel.emails}

    def taken(self) -> list[Any]:
        held, self.hand._emails = list(self.hand._waiting), 0
        self.hand._waiting.clear()
        return held

    def rounds(self, most: int = 6) -> set[int]:
        return set().union(*(self.round() for _ in range(most)))


def closed(conn: psycopg.Connection, kind: str, *, options: str = RESET) -> tuple[str, str]:
    """A limit that is used up until tomorrow, its lane closed, and many emails in it."""
    used = limited(conn, kind, most=4)
    conn.execute("select outboxd.set_limit('ours', %s)", (options,))
    used.settler.policies.refresh(conn)
    for _ in range(4):
        insert(conn, **COLUMNS)
    used.settle(used.claim(), Sent("re_1"))
    pause.lane(conn, *KEYS.get(kind, (kind, "acme")), closed_until=datetime.now(UTC) + timedelta(hours=9))
    for _ in range(MANY):
        insert(conn, **COLUMNS)
    return KEYS.get(kind, (kind, "acme"))


def lane_of(conn: psycopg.Connection, id_: int) -> tuple[str, str] | None:
    return conn.execute(
        "select lane.kind, lane.key from outboxd.ready join outboxd.lane on lane.id = ready.lane where ready.id = %s",
        (id_,),
    ).fetchone()


def end(conn: psycopg.Connection, kind: str, key: str) -> None:
    conn.execute(
        "update outboxd.pause set until = clock_timestamp() where (kind, key) = (%s, %s)", (kind, key)
    )


def resume(conn: psycopg.Connection, kind: str, key: str) -> None:
    conn.execute("select outboxd.resume(%s, %s)", (kind, key))


@pytest.mark.parametrize("ends", [resume, end])
@pytest.mark.parametrize("sees", [True, False], ids=["seen", "between two looks"])
@pytest.mark.parametrize("kind", KEYS)
def test_what_came_during_a_pause_does_not_wait_for_the_limit_after_it(conn, kind, sees, ends):
    lane = closed(conn, kind)
    daemon = Going(conn)
    conn.execute("select outboxd.pause(%s, %s, 'a look', clock_timestamp() + interval '1 h')", lane)
    due = insert(conn, type="reset", **COLUMNS)
    later = insert(conn, type="reset", **COLUMNS, scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    assert (lane_of(conn, due), lane_of(conn, later)) == (lane, lane)
    if sees:
        assert daemon.rounds() == set()
    ends(conn, *lane)
    assert daemon.rounds() == {due}
    assert lane_of(conn, later) == exempt.OTHERS
    assert [one.due_in > 3000 for one in lease.slots(conn, HOME.account)] == [True, True]


def test_what_a_claim_parked_during_a_pause_does_not_wait_for_the_limit_after_it(conn):
    lane = closed(conn, "campaign")
    daemon = Going(conn)
    reset = insert(conn, type="reset", **COLUMNS)
    conn.execute("select outboxd.pause('campaign', 'spring', 'a look', clock_timestamp() + interval '1 h')")
    assert daemon.rounds() == set()
    assert lane_of(conn, reset) == lane
    end(conn, *lane)
    assert daemon.rounds() == {reset}


def test_what_came_during_a_suspension_does_not_wait_for_the_limit_after_it(conn):
    lane = closed(conn, "provider_day")
    daemon = Going(conn)
    conn.execute(
        "insert into outboxd.provider_override (provider, suspended_until, reason, who)"
        " values ('example.org', clock_timestamp() + interval '1 h', 'x', 'me')"
    )
    reset = insert(conn, type="reset", **COLUMNS)
    assert daemon.rounds() == set()
    assert lane_of(conn, reset) == lane
    conn.execute("set session_replication_role = replica")  # time passes, which changes no policy
    conn.execute("update outboxd.provider_override set suspended_until = clock_timestamp()")
    conn.execute("update outboxd.lane set closed_until = clock_timestamp()")
    conn.execute("set session_replication_role = origin")
    assert daemon.rounds() == {reset}


@pytest.mark.parametrize("kind", ["provider_day", "campaign", "tenant"])
def test_a_type_that_is_made_exempt_goes_though_it_waits_deep_in_a_closed_lane(conn, kind):
    lane = closed(conn, kind, options="{}")
    reset = insert(conn, type="reset", **COLUMNS)
    assert lane_of(conn, reset) == lane
    daemon = Going(conn)
    assert daemon.rounds() == set()
    conn.execute("select outboxd.set_limit('ours', %s)", (RESET,))
    assert daemon.rounds() == {reset}


def test_a_lane_is_looked_through_when_policy_changed_and_not_whenever_it_closes_again(conn, monkeypatch):
    closed(conn, "provider_day")
    daemon = Going(conn)
    monkeypatch.setattr(exempt, "SETTLED", 0.0)
    seen: list[int] = []
    monkeypatch.setattr(exempt, "_step", lambda *args: seen.append(len(args[2])) or args[2].clear())
    for _ in range(3):
        conn.execute("update outboxd.lane set closed_until = clock_timestamp()")
        daemon.rounds(2)
    assert len(seen) == 2, "and once more for what was being committed"
    conn.execute("select outboxd.pause('provider', 'example.org', 'a look')")
    conn.execute("select outboxd.resume('provider', 'example.org')")
    daemon.rounds()
    assert len(seen) == 4


def test_many_lanes_are_looked_through_with_claims_between_also_where_a_look_fails(conn, monkeypatch):
    looks = exempt.Exempt(_looks={("campaign", str(n)): exempt.Look() for n in range(3)})
    monkeypatch.setattr(exempt, "REST", 1_000_000.0)
    for _ in range(3):
        looks.pull(conn)
    assert len(looks._looks) == 2, "there is no such lane, so that one look was over at once"
    assert looks.due() > time.monotonic()
    monkeypatch.setattr(exempt.parking, "exempting", lambda *_: 1 / 0)
    looks._rests = 0.0
    with pytest.raises(ZeroDivisionError):
        looks.pull(conn)
    assert not looks.pull(conn)


def test_the_slots_of_a_lane_are_those_of_all_queues_and_priorities(conn):
    lane = pause.lane(conn, "campaign", "spring")
    for queue, priority in [("marketing", 5), ("marketing", 5), ("marketing", 9), ("transactional", 7)]:
        insert(conn, queue=queue, priority=priority)
    insert(conn, queue="system")
    conn.execute("update outboxd.ready set lane = %s where priority in (5, 7, 9)", (lane,))
    found = {(slot.lane, slot.priority) for slot in exempt.parking.slots_in(conn, lane)}
    assert found == {(lane, 5), (lane, 7), (lane, 9)}


def test_a_lane_of_many_is_looked_through_in_steps(conn, monkeypatch):
    closed(conn, "provider_day", options="{}")
    reset = insert(conn, type="reset", **COLUMNS)
    monkeypatch.setattr(exempt, "MOST", 100)
    conn.execute("select outboxd.set_limit('ours', %s)", (RESET,))
    daemon = Going(conn)
    conn.execute("update outboxd.lane set closed_until = clock_timestamp()")
    assert daemon.rounds() == {reset}


def version(conn: psycopg.Connection) -> int:
    return lease.any_expired(conn)[1]


def test_a_pause_is_a_change_of_policy_only_where_limits_of_its_kind_exempt_types(conn):
    settings = {"kind": "campaign", "most": 5, "per": "1 d", "exempt_types": ["reset"]}
    conn.execute("select outboxd.set_limit('ours', %s)", (json.dumps(settings),))
    found = [version(conn)]
    for kind, key in (("provider", "example.org"), ("queue", "marketing"), ("campaign", "spring")):
        conn.execute("select outboxd.pause(%s, %s, 'a look')", (kind, key))
        found.append(version(conn))
        resume(conn, kind, key)
        found.append(version(conn))
    first = found[0]
    assert found == [first] * 5 + [first + 1, first + 2]


def test_where_no_limit_exempts_a_type_no_lane_is_looked_through(conn):
    closed(conn, "provider_day", options="{}")
    daemon = Going(conn)
    conn.execute("update outboxd.lane set closed_until = clock_timestamp()")
    daemon.round()
    assert daemon.leasing.exempt.due() is None
