"""The checker finds each planted fault in a history, finds none in a good one, and does not take an empty one for good."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from .checker import check, last_to_leave, timeline
from .history import Ask, Cancel, History, Injected, Insert, Limit, Move, Row, Sample, Suppression, Tail
from .plan import PLANS, POINTS, steps
from .rules_ledger import fullest
from .tails import lost_batches, named, split

ONE, TWO = 1, 2
CLAIMER, SETTLER, RECLAIMER = "outboxd claimer", "outboxd settler", "outboxd reclaimer"


def move(
    n: int, place: str, *, gone: bool = False, ids=(ONE,), xid: int = 0, who: str = SETTLER, **more
) -> Move:
    return Move(n, 100.0 + n / 10, xid or n, who, place, gone, tuple(ids), **more)


def way(id_: int, first: int = 1, *, lease: str = "A", end: str = "sent") -> list[Move]:
    """An email's good way: queued, leased, ended. Takes six numbers, three transactions."""
    n, ids = first, (id_,)
    return [
        move(n, "ready", ids=ids, who="app"),
        move(n + 1, "ready", gone=True, ids=ids, xid=n + 1, who=CLAIMER),
        move(n + 2, "lease", ids=ids, xid=n + 1, tag=lease, until=103.0 + n / 10, who=CLAIMER),
        move(n + 3, "lease", gone=True, ids=ids, xid=n + 3, tag=lease),
        move(n + 4, end, ids=ids, xid=n + 3),
    ]


def ask(
    uid: str, n: int = 1, *, at: float = 100.35, verdict: str = "new", key: str | None = None, **more
) -> Ask:
    ids = (f"p-{uid}",) if verdict in {"new", "replay"} else ()
    values = {"sha256": f"body of {uid}", "to": (f"m-{uid}",), "provider_ids": ids, "uids": (uid,)} | more
    return Ask(n, at, key or f"obx1.{uid}.1", verdict=verdict, **values)


def row(id_: int, uid: str, **more) -> Row:
    values = {"marker": f"m-{uid}", "end": "sent", "provider_id": f"p-{uid}", "attempts": 1} | more
    return Row(id_, uid, **values)


GOOD = History(
    moves=[*way(ONE, 1), *way(TWO, 11, lease="B", end="cancelled")],
    rows={ONE: row(ONE, "u"), TWO: row(TWO, "v", end="cancelled", provider_id=None, attempts=0)},
    asks=[ask("u")],
    inserts=[
        Insert("m-u", "acked", 100.1, "u"),
        Insert("m-v", "acked", 101.1, "v"),
        Insert("m-w", "aborted", 100.0),
    ],
    cancels=[Cancel("v", "acked", 101.2, certain=True)],
    samples=[Sample(100.0, 5, 0.1)],
)
TWICE = [
    *way(ONE, 1)[:3],
    move(4, "lease", gone=True, xid=4, tag="A"),
    move(5, "ready", xid=4),
]

TAKEN_OVER = [
    *(one._replace(gate="1") if one.place == "lease" else one for one in TWICE),
    move(6, "ready", gone=True, xid=6, who=CLAIMER),
    move(6, "lease", xid=6, tag="B", until=110.0, who=CLAIMER, gate="2"),
    move(30, "lease", gone=True, xid=30, tag="B", gate="2"),
    move(31, "sent", xid=30),
]  # daemon 1 lost its lease, daemon 2 had the next one


def buried(end: str, *asks: Ask, more: dict | None = None, **fields) -> History:
    """The good history, but for an email that ended so after these asks."""
    rows = GOOD.rows | {ONE: row(ONE, "u", end=end, provider_id=None, **(more or {}))}
    return changed(moves=[*way(ONE, 1, end=end), *GOOD.moves[5:]], rows=rows, asks=list(asks), **fields)


def ended(end: str, *, more: dict | None = None, **fields) -> History:
    """The good history, but for an email that ended so without being asked for."""
    rows = GOOD.rows | {ONE: row(ONE, "u", end=end, provider_id=None, attempts=0, **(more or {}))}
    return changed(
        moves=[*way(ONE, 1, end=end), *GOOD.moves[5:]],
        rows=rows,
        **({"asks": [ask("v", verdict="fault")]} | fields),
    )


def failed(fault: str, *, uids: tuple[str, ...] = ("u",)) -> Ask:
    return ask("u", verdict="fault", fault=fault, uids=uids)


def rules(history: History) -> set[str]:
    return {violation.rule for violation in check(history)}


def changed(**fields) -> History:
    return replace(GOOD, **fields)


def without(index: int) -> list[Move]:
    return [one for place, one in enumerate(GOOD.moves) if place != index]


def test_a_good_history_breaks_nothing():
    assert check(GOOD) == []


def test_an_empty_history_proves_nothing():
    assert rules(History()) == {"S0"}


BAD = {
    "an email that waits is settled by whom had it before": (
        "S6",
        changed(
            moves=[
                *TWICE,
                move(6, "ready", gone=True, xid=6),
                move(7, "sent", xid=6),
                *GOOD.moves[5:],
            ]
        ),
    ),
    "a waiting batch is settled by whom had it before": (
        "S6",
        changed(
            moves=[
                *way(ONE, 1)[:3],
                move(4, "batch", xid=4, tag="b"),
                move(5, "lease", gone=True, xid=5, tag="A"),
                move(6, "batch", gone=True, xid=6, tag="b"),
                move(7, "sent", xid=6),
                *GOOD.moves[5:],
            ]
        ),
    ),
    "dead says that it was not accepted, with an open answer": (
        "S13",
        changed(
            moves=[
                *way(ONE, 1)[:3],
                move(4, "open", xid=4),
                move(5, "open", gone=True, xid=5),
                move(5, "lease", gone=True, xid=5, tag="A"),
                move(6, "dead", xid=5),
                *GOOD.moves[5:],
            ],
            rows=GOOD.rows | {ONE: row(ONE, "u", end="dead", provider_id=None)},
            asks=[failed("422")],
        ),
    ),
    "asked for after it was cancelled for certain": (
        "S9", changed(asks=[*GOOD.asks, ask("v", 2, at=101.5, verdict="fault", fault="500")])
    ),
    "an acknowledged email has no row": ("S1", changed(inserts=[*GOOD.inserts, Insert("m-x", "acked", 100.0)])),
    "an ambiguous insert has two rows": (
        "S1",
        changed(inserts=[Insert("m-u", "ambiguous", 100.0)], rows=GOOD.rows | {3: row(3, "w", marker="m-u")}),
    ),
    "a rolled back email has a row": ("S2", changed(inserts=[Insert("m-u", "aborted", 100.0), *GOOD.inserts[1:]])),
    "a rolled back email was asked for": ("S2", changed(asks=[ask("u", to=("m-w",))])),
    "an email was sent that no transaction inserted": ("S2", changed(asks=[*GOOD.asks, ask("z", 2)])),
    "an email was accepted twice": ("S3", changed(asks=[ask("u"), ask("u", 2, key="obx1.u.2")])),
    "two emails of one dedupe key were accepted": (
        "S3",
        changed(
            rows={ONE: row(ONE, "u", dedupe_key="k"), TWO: row(TWO, "v", dedupe_key="k")},
            asks=[ask("u"), ask("v", 2, at=101.35)],
        ),
    ),
    "one key had two bodies": ("S4", changed(asks=[ask("u"), ask("u", 2, verdict="conflict", sha256="other")])),
    "a request had no key": ("S4", changed(asks=[replace(ask("u"), key="")])),
    "a batch's bytes were changed": (
        "S4", changed(moves=[*GOOD.moves, move(30, "batch_bytes", ids=(), tag="b")]),
    ),
    "sent, but never accepted": ("S5", changed(asks=[ask("u", verdict="fault")])),
    "sent with another's id": ("S5", changed(rows=GOOD.rows | {ONE: row(ONE, "u", provider_id="p-other")})),
    "accepted, but cancelled": ("S5", changed(asks=[*GOOD.asks, ask("v", 2, at=101.35)])),
    "it left its end": ("S6", changed(moves=[*GOOD.moves, move(30, "sent", gone=True), move(31, "ready", xid=30)])),
    "settled without leaving the lease": ("S6", changed(moves=without(3))),
    "settled by a lease that it is not in": (
        "S6", changed(moves=[*GOOD.moves[:3], GOOD.moves[3]._replace(tag="Z"), *GOOD.moves[4:]]),
    ),
    "settled by another daemon": (
        "S6", changed(moves=[
            *GOOD.moves[:2], GOOD.moves[2]._replace(gate="1"), GOOD.moves[3]._replace(gate="2"), *GOOD.moves[4:],
        ]),
    ),
    "taken from another daemon by a claimer that saw no promotion": (
        "S6", changed(moves=[
            *GOOD.moves[:2], GOOD.moves[2]._replace(gate="1"), GOOD.moves[3]._replace(gate="2", who=CLAIMER),
            *GOOD.moves[4:],
        ]),
    ),
    "queued and leased at once": ("S6", changed(moves=without(1))),
    "settled twice: queued again, and in another's lease": (
        "S6",
        changed(moves=[
            *TWICE,
            move(6, "ready", gone=True, xid=6, who=CLAIMER),
            move(7, "lease", xid=6, tag="B", until=110.0, who=CLAIMER),
            move(8, "ready", xid=8),
        ]),
    ),
    "in two leases at once": (
        "S7", changed(moves=[*GOOD.moves[:3], move(3, "lease", xid=9, tag="C", until=110.0), *GOOD.moves[3:]]),
    ),
    "reclaimed before its lease ran out": (
        "S7", changed(moves=[*GOOD.moves[:3], GOOD.moves[3]._replace(who=RECLAIMER), *GOOD.moves[4:]]),
    ),
    "asked without a lease": ("S8", changed(asks=[ask("u", at=90.0)])),
    "asked after its lease": ("S8", changed(asks=[ask("u", at=120.0)])),
    "cancelled for certain, and sent": ("S9", changed(cancels=[Cancel("u", "acked", 100.0, certain=True)])),
    "asked for after it was suppressed": ("S9", changed(suppressions=[Suppression("m-u", "acked", 97.0)])),
    "claimed after it was suppressed, and asked for at once": (
        "S9", changed(suppressions=[Suppression("m-u", "acked", 100.25)]),
    ),
    "asked for the first time after it expired": (
        "S9", changed(rows=GOOD.rows | {ONE: row(ONE, "u", expires_at=98.0)}),
    ),
    "asked again after a day": ("S10", changed(aged={"u": 98.0})),
    "an open answer was forgotten": (
        "S10", changed(moves=[*TWICE, move(6, "open", xid=4), move(7, "open", gone=True, xid=7)]),
    ),
    "the first ask of an open email was moved": ("S10", changed(moves=[*GOOD.moves, move(40, "window")])),
    "a batch's open answer was forgotten": (
        "S10", changed(moves=[*GOOD.moves, move(40, "batch_open", gone=True, ids=(), tag="b")]),
    ),
    "the first ask of an open batch was moved": (
        "S10", changed(moves=[*GOOD.moves, move(40, "batch_window", ids=(), tag="b")]),
    ),
    "taken back, and asked for by who claimed it later": (
        "S9", changed(cancels=[*GOOD.cancels, Cancel("u", "acked", 99.0, certain=False)]),
    ),
    "unknown for its time, though nothing was open": (
        "S13", buried("unknown", failed("500"), more={"error_class": "expired", "expires_at": 100.4}),
    ),
    "unknown for a suppression, though nothing was open": (
        "S13",
        buried(
            "unknown", failed("429"), more={"error_class": "suppressed"}, suppressions=[Suppression("m-u", "acked", 100.3)],
        ),
    ),
    "more attempts than leases": ("S11", changed(rows=GOOD.rows | {ONE: row(ONE, "u", attempts=2)})),
    "a window held too many": (
        "S12",
        changed(
            rows={ONE: row(ONE, "u", type="drip"), TWO: row(TWO, "v", type="drip")},
            asks=[ask("u", at=101.3), ask("v", 2, at=101.35)],
            limits=[Limit("drip", 1, 4.0)],
        ),
    ),
    "a limit was never tried": ("S12", changed(limits=[Limit("drip", 1, 4.0)])),
    "dead, but accepted": (
        "S13", changed(rows=GOOD.rows | {ONE: row(ONE, "u", end="dead")}, moves=[*way(ONE, 1, end="dead"), *GOOD.moves[5:]]),
    ),
    "dead after an outage": ("S13", buried("dead", failed("500"), more={"error_class": "transient"})),
    "unknown after an outage": ("S13", buried("unknown", failed("reset"), more={"error_class": "ambiguous"})),
    "unknown for another member's fault, though nothing was open": (
        "S13", buried("unknown", failed("422", uids=("u", "v")), more={"error_class": "unexpected"}),
    ),
    "dead for another member's fault": ("S13", buried("dead", failed("422", uids=("u", "v")))),
    "dead because nobody wanted it": ("S13", buried("dead", failed("500"), suppressions=[Suppression("m-u", "acked", 100.3)])),
    "quarantined for a stranger's crash": (
        "S13", changed(rows=GOOD.rows | {ONE: row(ONE, "u", end="unknown", error_class="crash_limit")}),
    ),
    "members of one batch ended apart": (
        "S14", changed(asks=[replace(ask("u"), uids=("u", "v"), provider_ids=("p-u", "p-v"))]),
    ),
    "expired, though it never does": ("S13", ended("expired")),
    "expired before its time": ("S13", ended("expired", more={"expires_at": 101.0})),
    "suppressed by nobody": ("S13", ended("suppressed")),
    "cancelled by nobody": ("S13", ended("cancelled")),
    "unknown though it was only refused": ("S13", buried("unknown", failed("422"), more={"error_class": "message"})),
    "asked for after it had expired": (
        "S9", ended("expired", more={"expires_at": 100.0}, asks=[ask("u", at=100.7, verdict="fault", fault="500")]),
    ),
    "asked for long after its lease was given back": ("S8", changed(asks=[ask("u", at=102.6)])),
    "asked for long after a zombie woke": (
        "S8", changed(asks=[ask("u", at=140.0)], injected=[Injected(100.5, 104.0, "zombie", "daemon 0")]),
    ),
    "asked for late, where a proxy only cut": (
        "S8", changed(asks=[ask("u", at=106.0)], injected=[Injected(102.0, 107.0, "proxy esp", "reset_peer")]),
    ),
    "cancelled where it waits by a daemon that does not have it": (
        "S6",
        changed(moves=[move(1, "ready", who="app"), move(2, "ready", gone=True, xid=2), move(3, "cancelled", xid=2), *GOOD.moves[5:]]),
    ),
    "left to the claimer where nothing is held": (
        "S6",
        changed(
            moves=[
                one._replace(gate="5001", who=CLAIMER) if one.n == 4 else one._replace(gate="5000") if one.n == 3 else one
                for one in GOOD.moves
            ],
            injected=[Injected(100.0, 101.0, "promotion", "synchronous standby")],
        ),
    ),
    "a duplicate of what is not there": (
        "S1", changed(inserts=[*GOOD.inserts, Insert("m-x", "acked", 100.2, "gone", "k", duplicate=True)]),
    ),
    "another uid than the application was told": (
        "S1", changed(inserts=[Insert("m-u", "acked", 100.1, "other"), *GOOD.inserts[1:]]),
    ),
    "inserted by nobody": ("S2", changed(inserts=GOOD.inserts[1:])),
    "accepted without its recipient": ("S5", changed(asks=[replace(ask("u"), to=("m-v",))])),
    "more attempts than it may have": (
        "S11", changed(rows=GOOD.rows | {ONE: row(ONE, "u", attempts=3, max_attempts=2)}),
    ),
    "a transaction that lasted on after its daemon went on": (
        "S18",
        changed(samples=[Sample(100.0, 5, 60.0)], injected=[Injected(50.0, 60.0, "zombie", "daemon 0")]),
    ),
    "a secret in a log": ("S17", changed(leaks=["the API key in a log"])),
    "a long transaction": ("S18", changed(samples=[Sample(100.0, 5, 9.0)])),
    "too many connections": ("S18", changed(samples=[Sample(100.0, 5000, 0.0)])),
    "not drained": ("L1", changed(moves=[*TWICE, *GOOD.moves[5:]], rows=GOOD.rows | {ONE: row(ONE, "u", end=None)})),
    "never queued": ("L1", changed(moves=GOOD.moves[:5])),
}  # fmt: skip


def test_an_ask_that_arrives_late_is_not_asked_again():
    """Its lease began before its email grew old, which happens to no email in a lease."""
    assert "S10" not in rules(changed(aged={"u": GOOD.asks[0].at - 0.1}))


@pytest.mark.parametrize("name", BAD)
def test_a_planted_fault_is_found(name):
    rule, history = BAD[name]
    assert rule in rules(history)


@pytest.mark.parametrize("rule", ["S1", "S3", "S6"])
def test_the_timeline_tells_of_the_first_offender(rule):
    history = next(history for found, history in BAD.values() if found == rule)
    violation = next(one for one in check(history) if one.rule == rule)
    told = list(timeline(history, violation))
    assert told[0].startswith(rule)
    assert any("application: insert" in line or "enters" in line for line in told)


def test_what_ended_by_somebody_s_will_is_no_offence():
    replaced = [
        Insert("m-u", "acked", 100.1, "u", "k"),
        Insert("m-x", "ambiguous", 100.2, "x", "k"),
        *GOOD.inserts[1:],
    ]
    for history in (
        ended("expired", more={"expires_at": 100.4}),
        ended("suppressed", suppressions=[Suppression("m-u", "ambiguous", 100.0)]),
        ended("cancelled", cancels=[*GOOD.cancels, Cancel("u", "ambiguous", 100.0)]),
        ended("cancelled", inserts=replaced),
    ):
        assert not rules(history) & {"S9", "S13"}


def test_a_duplicate_whose_original_a_crash_took_is_no_offence():
    gone = Insert("m-x", "acked", 100.0, "x", "k", relaxed=True)
    told = [*GOOD.inserts, gone, Insert("m-y", "acked", 100.2, "x", "k", duplicate=True)]
    crash = [Injected(101.0, 102.0, "postgres", "immediate")]
    assert rules(changed(inserts=told, injected=crash)) == set()


def test_a_transaction_of_who_was_cut_off_ends_by_the_server_s_time_out():
    cut = [Injected(92.0, 93.0, "proxy pg", "mid_commit_cut")]
    assert rules(changed(samples=[Sample(100.0, 5, 7.5)])) == {"S18"}
    assert rules(changed(samples=[Sample(100.0, 5, 7.5)], injected=cut)) == set()
    assert rules(changed(samples=[Sample(103.0, 5, 10.7)], injected=cut)) == {"S18"}


def test_a_transaction_is_no_longer_for_a_step_of_the_clock_that_it_saw():
    def stepped(lasted: float, *steps: tuple[float, float]) -> set[str]:
        return rules(changed(samples=[Sample(100.0, 5, lasted)], steps=steps)) & {"S18"}

    assert stepped(30.01, (99.998, 30.0)) == set()
    assert stepped(630.5, (99.7, 30.0), (99.8, 600.0)) == set()
    assert stepped(40.0, (99.998, 30.0)) == {"S18"}
    assert stepped(20.0, (99.0, 30.0)) == {"S18"}, "one that began after the step, by its age"
    assert stepped(30.0, (98.0, 30.0)) == {"S18"}
    assert stepped(30.01, (99.998, -30.0)) == {"S18"}


def test_connections_that_a_proxy_keeps_are_no_daemon_s():
    crowd = changed(samples=[Sample(100.0, 1500, 0.1)])
    assert rules(crowd) == {"S18"}
    assert rules(replace(crowd, injected=[Injected(99.0, 101.0, "proxy pg", "one_way_partition")])) == set()
    assert rules(replace(crowd, injected=[Injected(90.0, 95.0, "proxy pg", "one_way_partition")])) == {"S18"}


def test_what_a_crash_may_lose_is_only_what_did_not_wait_for_the_disk():
    lost = [*GOOD.inserts, Insert("m-x", "acked", 100.0, relaxed=True)]
    crash = [Injected(101.0, 102.0, "postgres", "immediate")]
    assert rules(changed(inserts=lost)) == {"S1"}
    assert rules(changed(inserts=lost, injected=crash)) == set()
    much_later = [Injected(181.0, 182.0, "postgres", "immediate")]
    assert rules(changed(inserts=lost, injected=much_later)) == {"S1"}
    waited = [*GOOD.inserts, Insert("m-x", "acked", 100.0)]
    assert rules(changed(inserts=waited, injected=crash)) == {"S1"}


def test_a_late_ask_is_excused_only_while_a_fault_delays_requests():
    late = changed(asks=[ask("u", at=106.0)])
    assert rules(late) == {"S8"}
    assert rules(replace(late, injected=[Injected(102.0, 107.0, "zombie", "daemon 0")])) == set()
    assert rules(replace(late, injected=[Injected(90.0, 91.0, "zombie", "daemon 0")])) == {"S8"}
    other = [Injected(102.0, 107.0, "zombie", "daemon 0", "5001")]
    known = replace(late, moves=[one._replace(gate="5000") for one in late.moves])
    assert rules(replace(known, injected=other)) == {"S8"}
    slow = [Injected(102.0, 112.0, "proxy esp", "latency")]
    assert rules(replace(late, injected=slow)) == set()
    assert rules(changed(asks=[ask("u", at=112.0)], injected=slow)) == {"S8"}
    theirs, others = (replace(slow[0], behind=frozenset({gate})) for gate in ("5000", "5001"))
    assert rules(replace(known, injected=[theirs])) == set()
    assert rules(replace(known, injected=[others])) == {"S8"}
    silent = [replace(slow[0], what="blackhole")]
    assert rules(replace(late, injected=silent)) == {"S8"}, "what it swallows never comes"
    just_woken, long_awake = ([Injected(102.0, until, "zombie", "daemon 0")] for until in (104.1, 103.9))
    assert rules(replace(late, injected=just_woken)) == set()
    assert rules(replace(late, injected=long_awake)) == {"S8"}


@pytest.mark.parametrize(
    "history",
    [
        buried("dead", failed("422")),
        buried("dead", ask("u", verdict="refused")),
        buried("dead", failed("redirect", uids=("u", "v"))),
        buried("dead", failed("500"), more={"max_attempts": 2}),
        buried("unknown", failed("conflict", uids=("u", "v"))),
        buried("unknown", failed("reset", uids=("u", "v")), replace(failed("422", uids=("u", "v")), at=101.0)),
        buried("unknown", failed("reset"), aged={"u": 104.0}),
        buried("unknown", failed("reset"), more={"expires_at": 104.0}),
        buried("unknown", failed("reset"), suppressions=[Suppression("m-u", "ambiguous", 104.0)]),
        buried("unknown", failed("reset"), cancels=[*GOOD.cancels, Cancel("u", "acked", 104.0, certain=False)]),
    ],
    ids=[
        "refused", "refused by the provider", "strange answers", "its own count", "other bytes",
        "a batch refused after an open answer", "aged", "expired", "suppressed", "cancelled",
    ],
)  # fmt: skip
def test_what_was_buried_for_a_reason_is_no_offence(history):
    assert "S13" not in rules(history)


def test_what_was_not_asked_again_is_unknown_where_an_answer_was_open_alone_or_in_its_batch():
    expired = buried("unknown", failed("reset"), more={"error_class": "expired", "expires_at": 100.4})
    assert rules(expired) == {"S13"}
    opened = [*TWICE[:4], move(4, "open", xid=4), TWICE[4], *_leased_again(6), *GOOD.moves[5:]]
    batch = [
        *TWICE[:4], move(4, "batch", xid=4, tag="b"), move(5, "batch_open", ids=(), tag="b"),
        move(6, "lease", xid=6, tag="B", until=110.0), move(7, "lease", gone=True, xid=7, tag="B"),
        move(7, "batch", gone=True, xid=7, tag="b"), move(7, "unknown", xid=7), *GOOD.moves[5:],
    ]  # fmt: skip
    for moves in (opened, batch):
        assert "S13" not in rules(replace(expired, moves=moves))


def _leased_again(n: int) -> list[Move]:
    """From `ready` by another lease to `unknown`, with an answer that was open."""
    return [
        move(n, "ready", gone=True, xid=n, who=CLAIMER),
        move(n, "lease", xid=n, tag="B", until=110.0, who=CLAIMER),
        move(n + 1, "lease", gone=True, xid=n + 1, tag="B"),
        move(n + 1, "open", gone=True, xid=n + 1),
        move(n + 1, "unknown", xid=n + 1),
    ]


def test_what_was_taken_back_may_be_asked_for_by_who_had_it_or_in_a_batch_that_may_have_been_asked():
    def said(at: float, **fields) -> set[str]:
        taken_back = [*GOOD.cancels, Cancel("u", "acked", at, certain=False)]
        return rules(changed(cancels=taken_back, **fields))

    assert said(99.35) == set(), "it was claimed within a second of it"
    assert said(99.0) == {"S9"}
    in_batch = [ask("u", key="obxb1.b.1")]
    opened, later = ([*GOOD.moves, move(n, "batch_open", ids=(), tag="b")] for n in (-5, 10))
    assert said(99.0, asks=in_batch, moves=opened) == set()
    assert said(99.0, asks=in_batch, moves=later) == {"S9"}
    zombie = [Injected(98.5, 100.3, "zombie", "daemon 0")]
    assert said(99.0, injected=zombie) == set()


def test_an_ask_is_judged_by_the_leases_of_who_asked():
    """Daemon 1 lost its lease, daemon 2 had the next one and gave it back; daemon 1 asks, having stood still."""
    moves = [*TAKEN_OVER, *GOOD.moves[5:]]

    def asked(*gates: str, **fields) -> set[str]:
        return rules(changed(moves=moves, asks=[ask("u", at=102.8, gates=frozenset(gates))], **fields))

    assert asked() == asked("2") == asked("1", "2") == set()
    assert asked("1") == {"S8"}
    assert asked("3") == {"S8"}, "who never had it"
    stood_still = [Injected(100.4, 102.7, "zombie", "daemon 1", "1")]
    assert asked("1", injected=stood_still) == set()
    assert asked("1", injected=[replace(stood_still[0], gate="2")]) == {"S8"}


def test_what_a_zombie_asked_late_is_no_part_of_a_window_though_another_had_it_meanwhile():
    moves = [*TAKEN_OVER, *way(TWO, 7, lease="C")]
    rows = {ONE: row(ONE, "u", type="drip"), TWO: row(TWO, "v", type="drip")}
    history = changed(
        moves=sorted(moves, key=lambda one: one.n), rows=rows, cancels=[], limits=[Limit("drip", 1, 4.0)],
        injected=[Injected(100.4, 102.7, "zombie", "daemon 1", "1")],
    )  # fmt: skip
    for gate, broken in (("1", set()), ("2", {"S12"})):
        asks = [ask("v", at=101.0), ask("u", 2, at=102.8, gates=frozenset({gate}))]
        assert rules(replace(history, asks=asks)) == broken
        judged, late = (2, 0) if broken else (1, 1)
        assert fullest(replace(history, asks=asks)) == {
            "drip": {"judged": judged, "with all": 2, "late acceptances": late, "windows left out": 0}
        }


def test_as_many_crashes_in_a_row_as_are_allowed_quarantine_an_email_and_no_fewer():
    def crashed(n: int, tag: str) -> list[Move]:
        return [
            move(n, "ready", gone=True, xid=n, who=CLAIMER),
            move(n, "lease", xid=n, tag=tag, until=100.0 + n / 10, who=CLAIMER),
            move(n + 1, "lease", gone=True, xid=n + 1, tag=tag, who=RECLAIMER),
        ]

    way_there = [
        move(1, "ready", who="app"),
        *crashed(2, "A"), move(3, "ready", xid=3, who=RECLAIMER),
        *crashed(4, "B"), move(5, "unknown", xid=5, who=RECLAIMER),
    ]  # fmt: skip
    fields = {"end": "unknown", "error_class": "crash_limit", "provider_id": None, "attempts": 0}
    history = changed(moves=[*way_there, *GOOD.moves[5:]], rows=GOOD.rows | {ONE: row(ONE, "u", **fields)})
    for limit, broken in ((0, True), (2, False), (3, True)):
        assert ("S13" in rules(replace(history, crash_limit=limit))) == broken
    settled = [one._replace(who=SETTLER) if one.n in {3, 5} else one for one in history.moves]
    assert "S13" in rules(replace(history, moves=settled, crash_limit=2))


def test_a_throttle_uses_no_attempt_up_where_its_answer_was_certainly_heard():
    moves = [
        *TWICE,
        *(one._replace(xid=one.xid + 20) for one in way(ONE, 20, lease="B")[1:]),
        *GOOD.moves[5:],
    ]
    sent = ask("u", 2, at=102.25)

    def counted(*asks: Ask, attempts: int = 2, **fields) -> set[str]:
        rows = GOOD.rows | {ONE: row(ONE, "u", attempts=attempts)}
        return rules(changed(**{"moves": moves, "rows": rows, "asks": [*asks, sent]} | fields))

    assert counted(failed("429")) == {"S11"}
    assert counted() == set(), "an ask that nobody has a record of"
    assert counted(failed("429"), attempts=1) == set()
    assert counted(failed("500")) == counted(failed("429"), replace(failed("500"), n=3)) == set()
    assert counted(failed("429"), deadline=0.05) == set(), "it was settled late"
    slow = [Injected(100.0, 100.5, "proxy esp", "reset_peer")]
    bent = [Injected(100.0, 100.5, "esp", "two-lengths")]
    assert counted(failed("429"), injected=slow) == counted(failed("429"), injected=bent) == set()
    assert counted(failed("429"), injected=[replace(bent[0], what="429")]) == {"S11"}
    reclaimed = [one._replace(who=RECLAIMER) if one.n in {4, 5} else one for one in moves]
    assert "S11" not in counted(failed("429"), moves=reclaimed)


def test_who_was_suppressed_may_be_in_a_request_that_was_on_its_way_or_asked_before():
    def said(at: float, fate: str = "acked", asks: Sequence[Ask] = (ask("u", at=103.5),), **fields) -> bool:
        return "S9" in rules(changed(suppressions=[Suppression("m-u", fate, at)], asks=list(asks), **fields))

    zombie, other = Injected(100.5, 103.4, "zombie", "daemon 0"), Injected(80.0, 85.0, "zombie", "daemon 0")
    again = [ask("u"), ask("u", 2, at=103.0, verdict="replay")]
    assert said(100.4)
    assert not said(100.6), "it was in hand, and its gates had just answered"
    assert not said(90.0, "ambiguous")
    assert not said(100.35, injected=[zombie])
    assert said(100.35, injected=[other])
    assert said(100.25, injected=[zombie]), "it was claimed after that"
    assert not said(100.4, asks=again)
    assert said(100.4, asks=[again[0], replace(again[1], at=103.6, key="obxb1.b.1", verdict="fault")])


def test_a_batch_that_may_have_been_asked_before_a_suppression_is_finished_but_no_other_is():
    def said(*moves: Move) -> set[str]:
        one = changed(moves=[*GOOD.moves, *moves], asks=[ask("u", key="obxb1.b.1")])
        return rules(replace(one, suppressions=[Suppression("m-u", "acked", 97.0)]))

    stored, late = (move(n, "batch", ids=(), tag="b") for n in (-30, -10))
    opened, after = (move(n, "batch_open", ids=(), tag="b") for n in (-5, 10))
    assert said(stored, opened) == set()
    assert said(stored) == said(late, opened) == said(stored, after) == said(opened) == {"S9"}


@pytest.mark.parametrize(
    ("who", "cancelled", "forgotten"),
    [("outboxd adopt", "v", False), ("outboxd adopt", "u", True), (SETTLER, "v", True)],
    ids=["an operator who took a member back", "one who took none back", "a daemon"],
)
def test_the_open_answer_of_a_batch_is_closed_only_by(who, cancelled, forgotten):
    stored = [
        move(30, "batch", ids=(TWO,), tag="b"),
        move(40, "batch_open", gone=True, ids=(), tag="b", who=who),
    ]
    found = check(
        changed(moves=[*GOOD.moves, *stored], cancels=[Cancel(cancelled, "acked", 101.2, certain=False)])
    )
    assert any("open answer of batch" in one.text for one in found) == forgotten


def test_what_has_expired_may_be_asked_for_again_and_late_where_a_fault_made_it_late():
    def until(at: float, **fields) -> set[str]:
        return rules(changed(rows=GOOD.rows | {ONE: row(ONE, "u", expires_at=at)}, **fields))

    again = [ask("u"), ask("u", 2, at=102.0, verdict="replay")]
    slow = [Injected(98.0, 101.0, "proxy esp", "latency")]
    assert until(98.3) == {"S9"}
    assert until(98.4) == set()
    assert until(100.4, asks=again) == set()
    assert until(97.0, injected=slow) == set()
    assert until(94.0, injected=slow) == {"S9"}
    assert until(90.0, steps=[(95.0, 600.0)]) == set()


def test_a_seed_gives_the_same_faults_and_every_point_its_turn():
    once, again = list(steps(PLANS["short"], 7)), list(steps(PLANS["short"], 7))
    assert once == again
    assert once != list(steps(PLANS["short"], 8))
    assert {step.what for round_ in once for step in round_ if step.kind == "kill"} == {*POINTS, "random"}


def test_a_lost_tail_excuses_phantoms_and_members_of_batches_but_never_a_single_email():
    tail = [Tail(100.0, 101.0, 102.0)]
    forgotten = Insert("m-z", "ambiguous", 100.5, uid="z")
    phantom = changed(asks=[*GOOD.asks, ask("z", 2)], inserts=[*GOOD.inserts, forgotten], tails=tail)
    assert split(phantom, check(phantom))[0] == []
    assert {violation.rule for violation in split(phantom, check(phantom))[1]} == {"S2"}
    late = replace(phantom, tails=[Tail(10.0, 10.5, 11.0)])
    assert {violation.rule for violation in split(late, check(late))[0]} == {"S2"}
    single = changed(asks=[ask("u"), ask("u", 2)], tails=tail)
    assert {violation.rule for violation in split(single, check(single))[0]} == {"S3"}
    member = changed(asks=[ask("u", key="obxb1.a.1"), ask("u", 2, key="obxb1.b.1")], tails=tail)
    assert split(member, check(member))[0] == []


def test_a_lost_tail_excuses_no_batch_that_is_remembered_nor_a_single_email_with_a_dedupe_key():
    tail = [Tail(100.0, 101.0, 102.0)]
    keyed = {**GOOD.rows, ONE: row(ONE, "u", dedupe_key="k")}
    for key in ("obx1.u.1", "obxb1.a.1"):
        stored = [*GOOD.moves, move(90, "batch", ids=(), tag="a")] if key.startswith("obxb1") else GOOD.moves
        twice = changed(moves=stored, rows=keyed, asks=[ask("u", key=key), ask("u", 2, key=key)], tails=tail)
        assert "S3" in {violation.rule for violation in split(twice, check(twice))[0]}


def test_each_batch_that_a_lost_tail_forgot_is_named_with_all_of_its_members_and_no_other():
    tail = [Tail(100.0, 101.0, 102.0)]
    forgotten = replace(ask("u", key="obxb1.a.1"), uids=("u", "v"))
    kept, late = ask("w", 2, key="obxb1.b.1"), ask("x", 3, at=200.0, key="obxb1.c.1")
    history = changed(
        moves=[*GOOD.moves, move(90, "batch", ids=(), tag="b")], asks=[forgotten, kept, late], tails=tail
    )
    assert lost_batches(history) == {"a": ("u", "v")}
    assert list(named(history, [])) == ["lost batch a, 2 members: u, v"]


def test_a_lost_tail_excuses_one_acceptance_beside_a_lost_batch_and_no_wrong_id():
    tail = [Tail(100.0, 101.0, 102.0)]
    lost, alone = ask("u", key="obxb1.a.1"), ask("u", 2, key="obx1.u.1")
    once = changed(asks=[lost, alone], tails=tail)
    assert split(once, check(once))[0] == []
    twice = changed(asks=[lost, alone, ask("u", 3, key="obx1.u.2")], tails=tail)
    assert {violation.rule for violation in split(twice, check(twice))[0]} == {"S3"}
    wrong = changed(rows=GOOD.rows | {ONE: row(ONE, "u", provider_id="p-v")}, tails=tail)
    assert {violation.rule for violation in split(wrong, check(wrong))[0]} == {"S5"}


def test_an_operator_cancels_what_the_provider_has_accepted_before_the_tail():
    tail = [Tail(101.0, 101.5, 102.0)]
    taken_back = replace(
        ended("cancelled", asks=[ask("u")], cancels=[*GOOD.cancels, Cancel("u", "acked", 103.0)], tails=tail),
        holds=True,
    )
    assert {violation.rule for violation in check(taken_back)} == {"S5"}
    assert split(taken_back, check(taken_back))[0] == []
    assert split(replace(taken_back, tails=[Tail(10.0, 10.5, 11.0)]), check(taken_back))[0] != []


def test_no_batch_is_excused_that_was_asked_for_far_from_every_promotion():
    tail = [Tail(100.0, 101.0, 102.0)]
    twice = [ask("u", at=200.0, key="obxb1.a.1"), ask("u", 2, at=201.0, key="obxb1.b.1")]
    far = changed(asks=twice, tails=tail)
    assert "S3" in {violation.rule for violation in split(far, check(far))[0]}


def test_a_lost_tail_excuses_nothing_that_was_rolled_back_or_acknowledged_by_the_new_primary():
    tail = [Tail(100.0, 101.0, 102.0)]
    aborted = Insert("m-z", "aborted", 100.5)
    asked = changed(
        asks=[*GOOD.asks, replace(ask("u", 2), to=("m-z",), verdict="replay")],
        inserts=[*GOOD.inserts, aborted],
        tails=tail,
    )
    assert "S2" in {violation.rule for violation in split(asked, check(asked))[0]}
    for at, rule in ((100.5, set()), (103.0, {"S1"})):
        lost = changed(inserts=[*GOOD.inserts, Insert("m-x", "acked", at)], tails=tail)
        assert {violation.rule for violation in split(lost, check(lost))[0]} == rule


def test_a_row_that_went_without_its_moves_is_missed():
    assert rules(changed(rows={ONE: GOOD.rows[ONE]})) >= {"S1"}


def test_where_an_operator_decides_no_member_of_a_batch_may_go_twice_either():
    tail = [Tail(100.0, 101.0, 102.0)]
    member = changed(asks=[ask("u", key="obxb1.a.1"), ask("u", 2, key="obxb1.b.1")], tails=tail, holds=True)
    assert {violation.rule for violation in split(member, check(member))[0]} == {"S3"}
    keyed = {ONE: row(ONE, "u", dedupe_key="k"), TWO: row(TWO, "v", dedupe_key="k")}
    again = changed(
        moves=[*way(ONE, 1), *way(TWO, 11, lease="B")], rows=keyed, asks=[ask("u"), ask("v", 2, at=101.3)],
        cancels=[], tails=tail, holds=True,
    )  # fmt: skip
    assert split(again, check(again))[0] == []


def test_a_lease_is_judged_by_the_server_s_clock_but_at_its_steps():
    def reclaimed(*, ahead: float) -> list[Move]:
        """Taken after three seconds that the server's clock made `ahead` longer."""
        moves = [*way(ONE, 1, end="ready"), *way(ONE, 40, lease="B"), *GOOD.moves[5:]]
        moves = [one for one in moves if one.n != 40]
        return [
            one._replace(at=102.0, ahead=ahead, who=RECLAIMER) if one.n in {4, 5} else one for one in moves
        ]

    asked = [ask("u", at=104.3)]
    assert "S7" in rules(changed(moves=reclaimed(ahead=0.0), asks=asked))
    assert "S7" not in rules(changed(moves=reclaimed(ahead=600.0), asks=asked))
    assert "S7" in rules(changed(moves=reclaimed(ahead=-30.0), asks=asked))
    assert "S7" not in rules(changed(moves=reclaimed(ahead=-30.0), asks=asked, steps=[(101.9, -30.0)]))


def test_a_window_that_a_step_forward_made_longer_is_none_but_one_that_goes_back_is():
    asks = [replace(ask("u"), uids=("u",), at=100.35 + n / 10, n=n, verdict="new") for n in (1, 2)]
    limit = [Limit("welcome", 1, 4.0)]
    two = changed(asks=asks, limits=limit)
    assert "S12" in rules(two)
    assert "S12" not in rules(replace(two, steps=[(100.5, 600.0)]))
    assert "S12" in rules(replace(two, steps=[(100.5, -600.0)]))
    told = fullest(replace(two, steps=[(100.65, 600.0)]))["welcome"]
    assert told == {"judged": 1, "with all": 2, "late acceptances": 0, "windows left out": 1}


def test_a_limit_that_was_exceeded_tells_how_long_before_its_ask_one_was_claimed():
    asks = [replace(ask("u"), uids=("u",), at=100.3 + n / 10, n=n, verdict="new") for n in (1, 2)]
    (found,) = (
        one for one in check(changed(asks=asks, limits=[Limit("welcome", 1, 4.0)])) if one.rule == "S12"
    )
    claimed_at = next(move.at for move in GOOD.moves if move.place == "lease" and ONE in move.ids)
    assert found.uid == "u"
    assert found.text.endswith(f"claimed {100.5 - claimed_at:.3f} s before")


def test_the_last_to_leave_is_the_one_that_waits_else_the_latest_end_before_the_drain_that_no_limit_holds():
    assert last_to_leave(GOOD).id == TWO
    assert last_to_leave(GOOD, max(move.at for move in GOOD.moves if ONE in move.ids)).id == ONE
    assert last_to_leave(changed(limits=[Limit("welcome", 1, 4.0)])) is None
    waiting = changed(rows=GOOD.rows | {ONE: row(ONE, "u", end=None)})
    assert last_to_leave(waiting).id == ONE


def test_every_profile_of_one_kind_of_fault_has_that_fault():
    kinds = {
        "disk": {"disk data", "disk wal"},
        "clock": {"clock daemon", "clock server 600"},
        "upgrade": {"upgrade"},
    }
    for profile, wanted in kinds.items():
        assert wanted <= {step.kind for round_ in steps(PLANS[profile], 1) for step in round_}


def test_what_concerns_no_email_is_told_with_the_faults_before_it():
    faults = [
        Injected(at, at + 1, "kill", what) for at, what in ((90.0, "long before"), (98.0, "just before"))
    ]
    crowd = changed(samples=[Sample(100.0, 1001, 0.1)], injected=faults)
    (found,) = check(crowd)
    told = "\n".join(timeline(crowd, found))
    assert "just before" in told
    assert "long before" not in told
