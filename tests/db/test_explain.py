"""What explain says of emails in random states is what claim, gates and limits then do with them."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner
from factories import (
    HOME,
    batched,
    claim,
    insert,
    payload,
    settle,
    settle_parcel,
    settler_without_thread,
    slot,
    uid_of,
)
from psycopg.types.json import Jsonb

from outboxd.cli.main import cli
from outboxd.core.outcome import (
    Ambiguous,
    Cancelled,
    Expired,
    Failure,
    Limited,
    Outcome,
    Parked,
    Sent,
    Suppressed,
    Unresolvable,
)
from outboxd.db import account, breaker, lease
from outboxd.db.pause import Probe
from outboxd.db.session import connect
from outboxd.delivery.admission import Admission
from outboxd.delivery.binder import Binder, bind
from outboxd.delivery.hand import Hand
from outboxd.delivery.leasing import Leasing, lease_emails
from outboxd.errors import DatabaseError
from outboxd.providers import Providers

A_BIT = timedelta(milliseconds=20)  # the statement's own precision, and more
HOUR = timedelta(hours=1)
FAR = timedelta(days=300)


@dataclass
class World:
    """Emails by the gate that is to hold them, made with `draw`."""

    conn: psycopg.Connection
    draw: random.Random
    now: datetime
    lanes: dict[str, int] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)

    def make(self, gate: str, others: list[str]) -> None:
        """One email that this gate stops, and some of those behind it as well."""
        wanted = {gate, *others}
        type_, body, columns = self.written(wanted)
        to = body["to"][0]
        says_no = "suppression" not in wanted and self.draw.random() < 0.1
        if says_no and self.draw.random() < 0.5:
            body["cc"] = [f"c{len(self.ids)}@{self.draw.choice(['paused.example', 'gmx.de'])}"]
        id_ = insert(self.conn, type=type_, body=body, **columns)
        self.ids[id_] = gate
        for one in reversed(GATES):  # of two that set the lane, the earlier gate has the last word
            if one in wanted & AFTERWARDS.keys():
                AFTERWARDS[one](self, id_, to)
        if says_no:
            self.conn.execute(
                "select outboxd.suppress(%s, 'unsubscribe', %s)", (body["cc"][0], columns["queue"])
            )
        if "recipient limit" in wanted:
            self.full_mailbox(to)
        if not wanted and self.draw.random() < 0.3:
            self.set_ready(id_, "lane", self.lanes["crowding"])

    def written(self, wanted: set[str]) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """What an application wrote: type, payload and other columns."""
        n = len(self.ids)
        own = f"d{n}.example"
        if "provider_day limit" in wanted:
            own = self.draw.choice(["yahoo.fr", "ymail.com", "full-day.example"])
        elif "provider_minute limit" in wanted:
            own = self.draw.choice(
                ["full-minute.example", "suspended.example", "behind.example", "own.example", "slow.example"]
            )
        elif "provider pause" in wanted:
            own = self.draw.choice(["paused.example", "gmx.de", "at-gmx.example"])
        to, cc = f"u{n}@{own}", f"c{n}@e{n}.example"
        body = payload(to=[to], cc=[cc])
        body["from"] = self.draw.choice(PAUSED_SENDERS) if "domain pause" in wanted else "hi@shop.example"
        type_ = f"t{n}" if self.draw.random() < 0.8 else "reset"
        queue = "held" if "queue pause" in wanted else "full" if "queue limit" in wanted else "open"
        if "recipient limit" in wanted:
            type_ = f"t{n}"
        if "type pause" in wanted:
            type_ = "halted"
        elif "type limit" in wanted:
            type_ = "full"
        columns: dict[str, Any] = {"queue": queue, "tenant": "full" if "tenant limit" in wanted else f"x{n}"}
        if "campaign pause" in wanted:
            columns["campaign"] = "spring"
        elif "campaign limit" in wanted:
            columns["campaign"] = "full"
        elif self.draw.random() < 0.2:
            columns["campaign"] = f"c{n}"
        if "expiry" in wanted:
            columns |= {
                "scheduled_at": self.now - 2 * HOUR,
                "expires_at": self.now - timedelta(seconds=self.draw.randint(1, 9000)),
            }
        elif self.draw.random() < 0.2:
            columns["expires_at"] = self.now + timedelta(hours=self.draw.randint(1, 48))
        return type_, body, columns

    def full_mailbox(self, address: str) -> None:
        ago = sorted(self.draw.uniform(60, 3000) for _ in range(3))[::-1]
        self.conn.execute(
            "insert into outboxd.recipient_count values (outboxd.recipient_key(%s), %s, %s, '1 h', 'infinity')",
            (address, [-1, -2, -3], [self.now - timedelta(seconds=one) for one in ago]),
        )

    def set_ready(self, id_: int, change: str, value: object) -> None:
        self.conn.execute(f"update outboxd.ready set {change} = %s where id = %s", (value, id_))

    def due_later(self, id_: int, _to: str) -> None:
        self.set_ready(
            id_, "scheduled_at", self.now + timedelta(seconds=self.draw.choice([900, 4000, 90_000]))
        )

    def closed_lane(self, id_: int, _to: str) -> None:
        closed = [lane for key, lane in self.lanes.items() if key != "crowding"]
        self.set_ready(id_, "lane", self.draw.choice(closed))

    def asked(self, id_: int, _to: str) -> None:
        ago = timedelta(hours=23, seconds=self.draw.randint(1, 1000))
        self.conn.execute(
            "insert into outboxd.progress (id, attempts, first_asked_at, ambiguous, frozen) values (%s, 1, %s, true, %s)",
            (
                id_,
                self.now - ago,
                Jsonb({"serialiser": 1, "tag": HOME.tag, "account": HOME.account, "api_url": HOME.api_url}),
            ),
        )

    def word(self, id_: int, kind: str) -> None:
        self.conn.execute(
            "insert into outboxd.word (id, kind, provider_id) values (%s, %s, %s)",
            (id_, kind, "re_1" if kind == "accepted" else None),
        )

    def suppress(self, _id: int, to: str) -> None:
        self.conn.execute("select outboxd.suppress(%s, 'hard_bounce')", (to,))


AFTERWARDS: dict[str, Callable[[World, int, str], None]] = {
    "held back": lambda world, id_, _: world.set_ready(id_, "lane", -1000),
    "due time": World.due_later,
    "lane": World.closed_lane,
    "accepted": lambda world, id_, _: world.word(id_, "accepted"),
    "cancel": lambda world, id_, _: world.word(id_, "cancel"),
    "suppression": World.suppress,
    "key life": World.asked,
}
GATES = [
    "held back", "due time", "queue pause", "lane", "accepted", "cancel", "expiry", "suppression", "key life",
    "domain pause", "type pause", "campaign pause", "provider pause",
]  # fmt: skip
PAUSED_SENDERS = ["Shop <hi@Closed.Example>", "Shop <hi@Bücher.example>", "hi@xn--bcher-kva.example"]
BEFORE_CLAIM = {"held back", "due time", "account pause", "breaker", "queue pause", "lane"}
LIMITS = [
    "recipient limit", "queue limit", "type limit", "campaign limit", "tenant limit", "provider_minute limit", "provider_day limit",
]  # fmt: skip


def furnish(world: World) -> None:
    """Policy, pauses, lanes, counts and what DNS said: all that emails have in common."""
    conn, now = world.conn, world.now
    conn.execute("insert into outboxd.queue (name) values ('held'), ('full'), ('open')")
    conn.execute("insert into outboxd.account (name) values (%s)", (HOME.account,))
    rules = [
        ("full_queue", {"kind": "queue", "key": "full", "most": 9, "per": "2 h"}),
        ("types", {"kind": "type", "most": 5, "per": "3 h"}),
        ("resets", {"kind": "type", "key": "reset", "most": "unlimited", "per": "1 h"}),
        ("campaigns", {"kind": "campaign", "most": 7, "per": "5 h"}),
        ("tenants", {"kind": "tenant", "most": 5, "per": "4 h"}),
        ("provider_minute", {"per": "10 min"}),
    ]
    for name, settings in rules:
        conn.execute("select outboxd.set_limit(%s, %s)", (name, Jsonb(settings)))
    until = now + timedelta(hours=world.draw.randint(2, 30))
    for kind, key, end in (
        ("queue", "held", until), ("domain", "closed.example", None), ("domain", "BÜCHER.example", None), ("type", "stopped", None), ("type", "halted", None),
        ("type", "parked", until + HOUR), ("provider", "paused.example", None), ("provider", "gmx", until),
        ("account", "other", None), ("campaign", "spring", None),
    ):  # fmt: skip
        conn.execute("select outboxd.pause(%s, %s, 'test', %s)", (kind, key, end))
    for kind, key, closed_until in (
        ("provider", "busy.example", now + HOUR), ("type", "parked", None), ("type", "stopped", now + 2 * HOUR), ("campaign", "autumn", now + HOUR), ("tenant", "crowding", None),
        ("tenant", "closed", now + 3 * HOUR),
    ):  # fmt: skip
        row = conn.execute(
            "insert into outboxd.lane (kind, key, closed_until) values (%s, %s, %s) returning id",
            (kind, key, closed_until),
        )
        world.lanes[key] = row.fetchone()[0]
    for kind, key, most, hours in (
        ("queue", "full", 9, 2), ("type", "full", 5, 3), ("tenant", "full", 5, 4), ("campaign", "full", 7, 5),
        ("provider_day", "yahoo", 500, 24), ("provider_day", "full-day.example", 10_000, 24),
        ("provider_minute", "full-minute.example", 100, 1 / 6), ("provider_minute", "slow.example", 25, 1 / 6),
    ):  # fmt: skip
        ago = sorted(world.draw.uniform(0, hours * 2400) for _ in range(2))[::-1]
        conn.execute(
            "insert into outboxd.window_count values (%s, %s, %s, %s, %s, %s, 'infinity')",
            (
                kind,
                key,
                [now - timedelta(seconds=one) for one in ago],
                [most - 2, 2],
                most,
                timedelta(hours=hours),
            ),
        )
    conn.execute(
        "insert into outboxd.provider_override (provider, rate_factor, suspended_until, reason, who) values"
        " ('suspended.example', 1, %(until)s, 'x', 'y'), ('behind', 0.5, %(until)s, 'x', 'y'), ('own.example', 1, %(until)s, 'x', 'y'), ('group', 1, null, 'x', 'y'),"
        " ('slow.example', 0.25, null, 'x', 'y')",
        {"until": until},
    )
    conn.execute(
        "insert into outboxd.domain_mx values ('behind.example', 'behind', %(now)s, 'infinity'),"
        " ('at-gmx.example', 'gmx', %(now)s, 'infinity'), ('own.example', 'group', %(now)s, 'infinity')",
        {"now": now},
    )


def fill(world: World, each: int) -> None:
    for gate in GATES:
        behind = GATES[GATES.index(gate) + 1 :] + LIMITS
        for _ in range(each):
            world.make(gate, [one for one in behind if world.draw.random() < 0.08])
    for gate in LIMITS:
        for _ in range(each):
            world.make(gate, [])
    for _ in range(2 * each):
        world.make(*two_limits(world))
    for _ in range(each):
        world.make("", [])


def two_limits(world: World) -> tuple[str, list[str]]:
    """Two limits that one email can be held by: its one recipient is at one provider."""
    first, second = world.draw.sample(LIMITS, 2)
    alike = first.startswith("provider_") and second.startswith("provider_")
    return two_limits(world) if alike else (first, [second])


def hold_account(world: World, holds: tuple[str, ...]) -> None:
    """Pause the account, open its breaker, or both; until some time, or until somebody resumes."""
    later = world.now + timedelta(seconds=world.draw.randint(100, 3000))
    if "account pause" in holds:
        until = world.draw.choice([None, world.now + timedelta(seconds=world.draw.randint(100, 9000))])
        world.conn.execute("select outboxd.pause('account', %s, 'key', %s)", (HOME.account, until))
    if "breaker" in holds:
        world.conn.execute(
            "insert into outboxd.breaker (account, state, opened_at, probe_at, open_for, cause)"
            " values (%s, 'open', clock_timestamp(), %s, '1 h', '500')",
            (HOME.account, later),
        )


def free_account(world: World) -> None:
    world.conn.execute("select outboxd.resume('account', %s)", (HOME.account,))
    world.conn.execute("delete from outboxd.breaker")


def empty_bucket(world: World, rate: float | None) -> datetime:
    """Permits of the account are taken until then: when that is."""
    until = datetime.now(UTC) + timedelta(seconds=world.draw.uniform(60, 120))
    world.conn.execute(
        "update outboxd.account set rate = %s, adapted = null, next_at = %s, drawn_at = clock_timestamp()",
        (rate, until),
    )
    return until


def permit_at(conn: psycopg.Connection) -> datetime:
    """When the next request may leave, as a daemon that asks for its permit is told."""
    _, _, due_in = account.reserve(conn, HOME.account, 1, share=1.0)
    return datetime.now(UTC) + timedelta(seconds=due_in)


def providers(conn: psycopg.Connection) -> Providers:
    """As a daemon knows them that met the two custom domains before."""
    known = Providers(lambda _: None)
    known.refresh(conn)
    for domain in ("behind.example", "at-gmx.example"):
        known.provider_of(domain)
    known.round(conn)
    return known


def sent_away(conn: psycopg.Connection) -> tuple[dict[int, Outcome], set[int]]:
    """Claim all that the daemon would claim: what the gates stop, each with its outcome, and what is in hand."""
    settler = settler_without_thread()
    settler.policies.refresh(conn)
    hand = Hand(20)
    admission = Admission(settler.policies, providers(conn).provider_of)
    binder = Binder(settler.session, hand, settler.report, [].append, 60.0, threading.Event())
    ttl = timedelta(seconds=60)
    leasing = Leasing(hand, settler, admission, uuid4(), HOME, ttl, lambda load: bind(binder, conn, load))
    wanted = [
        slot(one.queue, one.lane, one.priority)
        for one in lease.slots(conn, HOME.account)
        if one.due_in <= 0 and not one.closed
    ]
    while lease_emails(leasing, conn, wanted, 500):
        pass
    stopped: dict[int, Outcome] = {}
    while not settler.inbox.empty():
        result = settler.inbox.get()
        stopped |= {email.id: result.outcome for email in result.held.parcel.emails}
    return stopped, {email.id for held in hand.close() for email in held.parcel.emails}


def gate_of(outcome: Outcome) -> str:
    match outcome:
        case Sent():
            return "accepted"
        case Cancelled():
            return "cancel"
        case Expired():
            return "expiry"
        case Suppressed():
            return "suppression"
        case Unresolvable():
            return "key life"
        case Parked(kind, _):
            return f"{kind} pause"
        case Limited(kind, _, _):
            return f"{kind} limit"
    raise AssertionError(outcome)


@dataclass(frozen=True)
class Told:
    """What explain says: the gate that stops it ('' for none) and until when, when it can be claimed, the answer."""

    holder: str
    free_at: datetime | None
    claimable_at: datetime | None
    verdict: str
    earliest: datetime | None
    answer: str
    verdicts: dict[str, str]

    def limits(self) -> list[str]:
        """The limits that hold it."""
        return [gate for gate, said in self.verdicts.items() if gate in LIMITS and said == "hold"]


def explain(conn: psycopg.Connection, id_: int, at: datetime | None = None) -> Told:
    rows = conn.execute(
        "select gate, verdict, holds, free_at, detail from outboxd.explain(%s, %s) order by step",
        (uid_of(conn, id_), at),
    ).fetchall()
    (_, verdict, _, earliest, answer) = rows[-1]
    before = [free_at for gate, said, _, free_at, _ in rows if gate in BEFORE_CLAIM and said == "hold"]
    return Told(
        *next(((gate, free_at) for gate, _, holds, free_at, _ in rows if holds), ("", None)),
        None if None in before else max(before, default=None),
        verdict,
        earliest,
        answer,
        {gate: said for gate, said, *_ in rows},
    )


def claimable(conn: psycopg.Connection, id_: int, now: datetime) -> bool:
    """Whether the daemon would claim it at an instant, if nothing changed until then; perhaps as the breaker's probe."""
    row = conn.execute("select queue, lane, priority, scheduled_at from outboxd.ready where id = %s", (id_,))
    *place, due_at = row.fetchone()
    probe_in = breaker.probe_due_in(conn, HOME.account, now=now)
    probe = Probe("breaker", HOME.account, "provider_ill") if probe_in is not None and probe_in <= 0 else None
    return due_at <= now and any(
        [one.queue, one.lane, one.priority] == place and one.due_in <= 0 and not one.closed
        for one in lease.slots(conn, HOME.account, probe=probe, now=now)
    )


def claimed_when_told(world: World, id_: int, said: Told) -> bool:
    """Whether it is held before the claim, and claimable from the told instant on and not before."""
    if (at := said.claimable_at) is None:
        return said.holder in BEFORE_CLAIM and not claimable(world.conn, id_, world.now + FAR)
    before, after = (claimable(world.conn, id_, at + step) for step in (-A_BIT, A_BIT))
    return said.holder in BEFORE_CLAIM and after and not before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("each", "at_least"), [(20, 16), pytest.param(126, 100, marks=pytest.mark.long)], ids=["400", "2000"]
)
def test_explain_says_of_random_emails_what_the_path_then_does(conn, each, at_least):
    """`each` are made for each gate to hold, and some of those are held by an earlier one."""
    world = World(conn, random.Random(20260601), datetime.now(UTC))
    furnish(world)
    with conn.transaction():
        fill(world, each)
    conn.execute("analyze")
    told = {id_: explain(conn, id_) for id_ in world.ids}
    stopped, going = sent_away(conn)
    wrong = []
    for id_, said in told.items():
        if id_ in going:
            right = (said.holder, said.verdict, said.answer) == ("", "pass", "may go now")
        elif id_ in stopped:
            outcome = stopped[id_]
            right = gate_of(outcome) == said.holder and said.verdict != "pass"
            if isinstance(outcome, Limited):
                right = (
                    right
                    and abs(outcome.free_at - said.free_at) < A_BIT
                    and said.earliest in {None, said.free_at}
                )
            elif not isinstance(outcome, Parked):
                right = right and (said.verdict, said.earliest) == ("end", None)
        else:
            right = claimed_when_told(world, id_, said)
        if not right:
            wrong.append((id_, world.ids[id_], said, stopped.get(id_), id_ in going))
    assert wrong == [], Counter(one[1] for one in wrong)
    held = Counter(said.holder for said in told.values())
    assert {gate: held[gate] for gate in [*GATES, *LIMITS, ""] if held[gate] < at_least} == {}
    assert sum(len(said.limits()) > 1 for id_, said in told.items() if id_ in stopped) >= at_least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("each", "at_least"), [(3, 16), pytest.param(20, 100, marks=pytest.mark.long)], ids=["70", "460"]
)
@pytest.mark.parametrize(
    "holds",
    [("account pause",), ("breaker",), ("account pause", "breaker")],
    ids=["paused", "breaker open", "both"],
)
def test_explain_says_of_random_emails_how_an_account_that_may_not_ask_holds_them(
    conn, each, at_least, holds
):
    """The same emails, held by their account as well: an earlier gate comes first, and nothing is claimed."""
    world = World(conn, random.Random(20260603), datetime.now(UTC))
    furnish(world)
    with conn.transaction():
        fill(world, each)
    free = {id_: explain(conn, id_).holder for id_ in world.ids}
    held = Counter()
    for _ in range(3):
        hold_account(world, holds)
        told = {id_: explain(conn, id_) for id_ in world.ids}
        assert sent_away(conn) == ({}, set())
        assert [
            (id_, said, free[id_])
            for id_, said in told.items()
            if said.holder != (free[id_] if free[id_] in {"held back", "due time"} else holds[0])
            or not claimed_when_told(world, id_, said)
        ] == []
        held.update(said.holder for said in told.values())
        free_account(world)
    assert held[holds[0]] >= at_least
    assert {id_: explain(conn, id_).holder for id_ in world.ids} == free


@pytest.mark.parametrize("rate", [10.0, None], ids=["a bucket that is empty", "no rate"])
@pytest.mark.parametrize("each", [16, pytest.param(100, marks=pytest.mark.long)], ids=["16", "100"])
def test_explain_says_of_emails_that_may_be_claimed_when_their_account_has_a_permit(conn, each, rate):
    """Each is otherwise free; beside them one for each gate, which holds it before the pace does."""
    world = World(conn, random.Random(20260604), datetime.now(UTC))
    furnish(world)
    with conn.transaction():
        fill(world, 1)
        for _ in range(each):
            world.make("", [])
    free = {id_: explain(conn, id_).holder for id_ in world.ids}
    until = empty_bucket(world, rate)
    told = {id_: explain(conn, id_) for id_ in world.ids}
    _, going = sent_away(conn)
    assert len(going) >= each
    if rate is None:
        assert permit_at(conn) < until - A_BIT
        assert {id_: said.holder for id_, said in told.items()} == free
        return
    assert abs(permit_at(conn) - until) < A_BIT
    assert {(told[id_].holder, told[id_].free_at, told[id_].earliest) for id_ in going} == {
        ("account pace", until, until)
    }
    assert {id_: told[id_].holder for id_ in world.ids if id_ not in going} == {
        id_: holder for id_, holder in free.items() if id_ not in going
    }


def test_a_paused_account_holds_everything_until_the_pause_ends(conn):
    ids = [insert(conn) for _ in range(100)]
    until = datetime.now(UTC) + HOUR
    conn.execute("select outboxd.pause('account', %s, 'key', %s)", (HOME.account, until))
    said = [explain(conn, id_) for id_ in ids]
    assert {(one.holder, one.free_at, one.earliest) for one in said} == {("account pause", until, until)}
    assert sent_away(conn) == ({}, set())
    assert not claimable(conn, ids[0], until - A_BIT)
    assert claimable(conn, ids[0], until + A_BIT)
    conn.execute("insert into outboxd.account (name) values ('second')")
    assert explain(conn, ids[0]).holder == "", "the other account may ask"


def test_an_open_breaker_holds_everything_until_its_next_probe(conn):
    ids = [insert(conn) for _ in range(100)]
    probe_at = datetime.now(UTC) + timedelta(seconds=30)
    conn.execute(
        "insert into outboxd.breaker (account, state, opened_at, probe_at, cause)"
        " values (%s, 'open', clock_timestamp(), %s, '500')",
        (HOME.account, probe_at),
    )
    said = [explain(conn, id_) for id_ in ids]
    assert {(one.holder, one.free_at, one.earliest) for one in said} == {("breaker", probe_at, probe_at)}
    assert sent_away(conn) == ({}, set())
    conn.execute("update outboxd.breaker set state = 'closed'")
    assert explain(conn, ids[0]).holder == ""
    _, going = sent_away(conn)
    assert ids[0] in going


def test_what_comes_too_late_for_its_expiry_is_told(conn):
    now = datetime.now(UTC)
    id_ = insert(conn, scheduled_at=now + HOUR, expires_at=now + 2 * HOUR)
    assert explain(conn, id_).earliest == now + HOUR
    conn.execute("select outboxd.pause('queue', 'transactional', 'x', %s)", (now + 3 * HOUR,))
    said = explain(conn, id_)
    assert (said.verdict, said.earliest, said.answer) == (
        "hold",
        None,
        "held by due time, and expires before that",
    )


def test_an_email_in_hand_or_at_its_end_or_lost_has_its_state_as_the_answer(conn):
    sent, lost = insert(conn), insert(conn)
    (email,) = [one for one in claim(conn) if one.id == sent]
    assert explain(conn, sent).verdicts == {"state": "pass", "answer": "pass"}
    settle(conn, (email, Sent("re_1")))
    assert explain(conn, sent).answer.startswith("sent at 20")
    conn.execute("delete from outboxd.lease")
    said = explain(conn, lost)
    assert (said.holder, said.verdict) == ("state", "hold")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="uid: there is no email"):
        conn.execute("select * from outboxd.explain(gen_random_uuid())").fetchall()


def test_a_batch_with_an_open_answer_is_finished_unchanged(conn, connect):
    parcel = batched(conn, connect(), 3)
    settle_parcel(conn, parcel, Ambiguous(Failure("ambiguous", "time-out")))
    first = parcel.emails[0].id
    conn.execute("update outboxd.batch set due_at = clock_timestamp()")
    conn.execute("insert into outboxd.word (id, kind) values (%s, 'cancel')", (first,))
    assert explain(conn, first).holder == ""
    conn.execute("select outboxd.pause('provider', 'example.org', 'x')")
    assert explain(conn, first).holder == "provider pause"
    conn.execute("update outboxd.batch set first_asked_at = clock_timestamp() - interval '23 h'")
    assert explain(conn, first).holder == "key life"
    conn.execute("update outboxd.batch set due_at = clock_timestamp() + interval '1 h'")
    assert explain(conn, first).holder == "due time"


def test_its_place_counts_what_is_due_before_it_in_its_queue_lane_and_priority(conn):
    ids = [insert(conn) for _ in range(5)]
    insert(conn, priority=9)
    place = "select detail from outboxd.explain(%s) where gate = 'place'"
    assert (
        conn.execute(place, (uid_of(conn, ids[3]),))
        .fetchone()[0]
        .startswith("3 before it in queue transactional")
    )


def test_explaining_writes_nothing(conn):
    id_ = insert(conn)
    uid = uid_of(conn, id_)
    with conn.transaction():
        conn.execute("set transaction read only")
        assert conn.execute("select count(*) > 10 from outboxd.explain(%s)", (uid,)).fetchone() == (True,)


def test_an_administrator_may_ask_and_a_dashboard_may_not(conn, connect):
    uid = uid_of(conn, insert(conn))
    admin, grafana = connect(), connect()
    admin.execute("set session authorization outboxd_admin")
    assert admin.execute("select count(*) > 10 from outboxd.explain(%s)", (uid,)).fetchone() == (True,)
    grafana.execute("set session authorization outboxd_grafana")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        grafana.execute("select * from outboxd.explain(%s)", (uid,))


class TestCommand:
    @pytest.fixture
    def outboxd(self, database) -> Callable[..., Any]:
        return lambda *arguments: CliRunner().invoke(
            cli, ["explain", *map(str, arguments)], env={"DATABASE_URL": database}
        )

    def test_it_names_the_gate_and_the_earliest_time(self, outboxd, conn):
        id_ = insert(conn, scheduled_at=datetime.now(UTC) + HOUR)
        uid = uid_of(conn, id_)
        told = json.loads(outboxd(uid, "--json").stdout)
        assert (told["held_by"], told["verdict"]) == ("due time", "hold")
        assert datetime.fromisoformat(told["earliest"]) > datetime.now(UTC)
        assert [gate["gate"] for gate in told["gates"]][:3] == ["state", "held back", "due time"]
        text = outboxd(uid)
        assert text.exit_code == 0
        assert "held by due time" in text.stdout
        assert any(line.startswith(">  due time") for line in text.stdout.splitlines())

    def test_an_unknown_uid_is_a_clear_failure(self, outboxd):
        result = outboxd(uuid4())
        assert isinstance(result.exception, DatabaseError)
        assert "there is no email with this uid" in str(result.exception)


WATCHED = """
load 'auto_explain';
set auto_explain.log_min_duration = 0;
set auto_explain.log_nested_statements = on;
set jit_above_cost = 0;
set client_min_messages = log
"""


def test_an_explanation_is_not_compiled_however_dear_its_plan_looks(conn):
    """Compiling takes 100 ms and more. The server tells of each statement whether it was, where it can compile at all."""
    uid = uid_of(conn, insert(conn))
    plans: list[str] = []
    conn.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    conn.execute(WATCHED)
    conn.execute("select sum(n * 2) from generate_series(1, 10) as n where n %% 2 = %s", (0,))
    if conn.execute("select pg_jit_available()").fetchone() == (True,):
        assert "JIT:" in plans[-2], "a compiled statement is told of as one"
    plans.clear()
    conn.execute("select from outboxd.explain(%s)", (uid,)).fetchall()
    inner = [
        plan for plan in plans if "from outboxd.explain(" not in plan.partition("\n")[2].partition("\n")[0]
    ]
    assert len(inner) >= 1, "its statements were watched"
    assert not [plan for plan in inner if "JIT:" in plan]


def test_a_session_off_the_path_is_not_compiled_for_either(database):
    with connect(database, "test") as one:
        assert one.execute("show jit").fetchone() == ("off",)
