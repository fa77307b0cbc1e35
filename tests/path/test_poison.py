"""Poison among good mail: the daemon lives, each bad row is parked with its reason, and good mail hardly notices.

Poison cannot be inserted, so it is planted by a superuser after the checks: payloads of every wrong shape and fuzzed
ones. What only the provider refuses comes after that, and is measured apart: the good ones of its batch are asked again.
"""

import json
import random
import statistics
import threading
import time
from uuid import UUID

import psycopg
import pytest
from conftest_path import drained, only_once
from factories import HOME, payload
from ledger import percentile
from waiting import until

from outboxd.core.wire import Unsendable, render
from outboxd.sink.server import Running

pytestmark = [pytest.mark.path, pytest.mark.slow]

LOT = 10  # rows in one transaction
TURN = 20  # good emails: a vacuum, of half a second once a minute, meets good ones alone and among poison
PER_SECOND = 100  # good emails
REFUSED = 20  # lots for each one with an email that the provider refuses; more of them are taken for the account's fault
NOISE = {
    500: 2.0,
    10_000: 0.002,
}  # seconds more in a p99: the short run shares its machine; of a few milliseconds a fifth is noise
ROUNDS = (
    0.05  # seconds more in a p99: the good emails of a refused batch are asked again, four rounds at most
)
SUPPRESSED = "gone@example.org"


def nested(depth: int) -> str:
    return '{"to":' + "[" * depth + "]" * depth + "}"


SHAPES = [
    "[]", "{}", "null", '"text"', "17", "[[]]", nested(50), nested(3_000), '{"to": 5}', '{"to": {"a": 1}}',
    *(json.dumps(payload(**fields)) for fields in (
        {"to": []}, {"to": ["a@b.example"] * 51}, {"to": "a@b@c"}, {"to": None}, {"to": [None]}, {"to": [["a@b.example"]]},
        {"subject": "a\r\nBcc: x@y.example"}, {"subject": 5}, {"headers": ["X: y"]}, {"headers": {"X\n": "y"}},
        {"headers": {"X": 5}}, {"attachments": "x"}, {"attachments": [5]}, {"attachments": [{"filename": "a\nb"}]},
        {"tags": "x"}, {"tags": [{"name": "outboxd_uid", "value": "x"}]}, {"from": 7}, {"from": ["a@b.example"]},
        {"reply_to": {}}, {"cc": "@"}, {"bcc": 1.5}, {"to": "a" * 300 + "@b.example"}, {"to": "\u202e@b.example"},
    )),
    '{"to": "a@b.example", "from": "a@b.example", "subject": "s", "html": ' + "9" * 5_000 + "}",
]  # fmt: skip


def fuzzed(chance: random.Random) -> str:
    def value(depth: int) -> object:
        kinds = [
            None,
            True,
            chance.randrange(-9, 9),
            chance.random(),
            "".join(chance.choices('ab@.<>"\\é\n', k=5)),
        ]
        if depth and chance.random() < 0.5:
            return [value(depth - 1) for _ in range(chance.randrange(4))]
        if depth and chance.random() < 0.5:
            return {chance.choice("abc"): value(depth - 1) for _ in range(chance.randrange(4))}
        return chance.choice(kinds)

    fields = chance.sample(["to", "from", "subject", "headers", "tags", "attachments", "cc", "html"], 2)
    return json.dumps(payload() | {field: value(3) for field in fields})


def unsendable(text: str) -> bool:
    try:
        render(text, UUID(int=1), HOME)
    except Unsendable:
        return True
    return False


class Poisoner:
    """Keeps up its pace, whatever it inserts: `good` ids, and as many others: `bad` ones, or more good ones."""

    def __init__(self, conn: psycopg.Connection, seed: int) -> None:
        self.conn, self.chance = conn, random.Random(seed)
        self.good: list[int] = []
        self.bad: dict[int, str] = {}
        self.texts: list[str] = []

    def prepare(self, count: int) -> None:
        """Make as much poison as is needed, before anything is measured: a fifth of known shapes, the rest fuzzed."""
        known = (SHAPES * count)[: count // 5]
        self.texts = known + [self.fuzzed() for _ in range(count - len(known))]
        self.chance.shuffle(self.texts)

    def work(self, count: int, *, poison: str = "") -> None:
        begun = time.monotonic()
        for n in range(0, count, LOT):
            with self.conn.transaction():
                if poison == "fuzzed":  # before the good ones: what planting takes is no latency of theirs
                    self.plant()
                elif poison == "refused" and n // LOT % REFUSED == 0:
                    text = payload(to=f"fault+422@bad-{n}.example")
                    self.bad[self.insert([text])[0]] = json.dumps(text)
                elif not poison:
                    self.insert([payload(to=f"other-{n + i}@example.org") for i in range(LOT)])
                self.good += self.insert([payload(to=f"good-{n + i}@example.org") for i in range(LOT)])
            threading.Event().wait(max(0.0, begun + (n + LOT) / PER_SECOND - time.monotonic()))  # the pace

    def insert(self, items: list) -> list[int]:
        values = [(json.dumps(item),) for item in items]
        rows = [
            self.conn.execute(
                "insert into outboxd.email (type, payload) values ('welcome', %s) returning id", value
            )
            for value in values
        ]
        return [row.fetchone()[0] for row in rows]

    def plant(self) -> None:
        ids = self.insert([payload(to=SUPPRESSED if i == 0 else f"bad-{i}@example.org") for i in range(LOT)])
        for id_ in ids:
            text = self.texts.pop()
            self.conn.execute("update outboxd.email set payload = %s where id = %s", (text, id_))
            self.bad[id_] = text

    def fuzzed(self) -> str:
        return next(text for _ in range(1_000) if unsendable(text := fuzzed(self.chance)))


def latencies(conn: psycopg.Connection, running: Running, ids: list[int]) -> list[float]:
    """Seconds from the insert to the arrival at the provider, in the order of the inserts."""
    arrived = {
        uid: entry.at for entry in running.provider.entries for uid in entry.uids if entry.verdict == "new"
    }
    rows = conn.execute(
        "select uid::text, extract(epoch from email.created_at)::float8 from outboxd.delivery"
        " join outboxd.email using (id) where id = any (%s) and state = 'sent'"
        " order by id",
        (ids,),
    ).fetchall()
    assert len(rows) == len(ids), "a good email was not sent"
    return [arrived[uid] - inserted for uid, inserted in rows]


def typical(seconds: list[float]) -> float:
    """The p99 of a second's emails, at the median of the seconds: what strikes a few, poison or not, is in no typical one."""
    return statistics.median(
        percentile(seconds[n : n + PER_SECOND], 0.99) for n in range(0, len(seconds), PER_SECOND)
    )


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.long)])
def test_poison_is_parked_with_its_reason_and_good_mail_hardly_notices(conn, connect, sink, daemon, count):
    running = sink(keep=count * 4)
    one = daemon(running.url)
    conn.execute("select outboxd.suppress(%s, 'admin')", (SUPPRESSED,))
    first, alone, among, beside = (Poisoner(connect(), seed) for seed in range(4))
    first.work(PER_SECOND)  # the start of a daemon is no poison's doing
    among.prepare(count)
    for turn in range(count // TURN):  # what changes as tables grow meets both
        both = [(alone, ""), (among, "fuzzed")]
        for poisoner, poison in both if turn % 2 else reversed(both):
            poisoner.work(TURN, poison=poison)
            until(lambda: drained(conn), within=60, what="all of a turn to end")
    beside.work(count // 5, poison="refused")
    until(lambda: drained(conn), within=120, what="the refused ones to end")
    took = [latencies(conn, running, ids.good) for ids in (alone, among, beside)]
    before, after, split = (percentile(seconds, 0.99) for seconds in took)
    usual, with_poison = typical(took[0]), typical(took[1])
    print(
        f"good ones' p99: {before:.4f} s alone, {after:.4f} s among {len(among.bad)} poison rows"
        f" (in a typical second {usual:.4f} and {with_poison:.4f} s),"
        f" {split:.4f} s where {len(beside.bad)} in {count // 5} are refused with their batch, from insert to arrival"
    )

    assert one.process.poll() is None
    ended = dict(conn.execute("select id, message from outboxd.dead_letter").fetchall())
    states = dict(conn.execute("select id, state from outboxd.delivery where state <> 'sent'").fetchall())
    sent = {row[0] for row in conn.execute("select id from outboxd.delivery where state = 'sent'").fetchall()}
    for id_, text in (among.bad | beside.bad).items():
        reason = ended.get(id_) or states.get(id_)
        assert reason or id_ in sent, f"{text[:200]} has no end"
        assert reason or not unsendable(text), f"{text[:200]} was sent"
    assert not set(first.good + alone.good + among.good + beside.good) & set(ended)
    assert set(beside.bad) <= set(ended)
    assert set(conn.execute("select distinct certainty from outboxd.dead_letter").fetchall()) == {
        ("not_accepted",)
    }
    only_once(running)
    assert "Traceback" not in one.log.read_text()
    assert with_poison <= 1.2 * usual + (0.0 if count == 10_000 else NOISE[count])
    assert after <= max(1.2 * before, before + NOISE[count])
    assert split <= before + NOISE[count] + ROUNDS
