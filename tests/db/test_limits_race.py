"""Limits under many connections and the real clock: never over in a true sliding window, never a deadlock."""

import os
import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from limiting import HOUR, MINUTE, THREE_AN_HOUR, give_back, grant, granted, most_within, subject
from waiting import until

from outboxd.core.limits import GRANT_TO_ARRIVAL, Limit
from outboxd.db import limit
from outboxd.db.migrate import migrate

SECONDS = float(os.environ.get("OUTBOXD_RACE_SECONDS", "6"))
SLACK = timedelta(milliseconds=100)
PATIENCE = GRANT_TO_ARRIVAL.total_seconds() / 4  # with the locks of windows, under an instant before them
WINDOW = timedelta(seconds=1)
LIMITS = (
    Limit("recipient", None, 3, WINDOW),
    Limit("provider_minute", None, 12, WINDOW),
    Limit("provider_day", None, 40, 4 * WINDOW),
    Limit("tenant", None, 40, 2 * WINDOW),
    Limit("queue", "marketing", 20, WINDOW),
    Limit("campaign", None, 30, WINDOW),
)


@dataclass
class Rush:
    """Threads that ask for random batches, and every email that arrived: at a random time within the slack."""

    connect: object
    arrivals: dict[tuple[str, str], list[datetime]] = field(default_factory=lambda: defaultdict(list))
    errors: list[Exception] = field(default_factory=list)
    mutex: threading.Lock = field(default_factory=threading.Lock)
    batches: int = 0

    def run(self, threads: int, seconds: float) -> None:
        ends = time.monotonic() + seconds
        workers = [threading.Thread(target=self.work, args=(n, ends)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def work(self, seed: int, ends: float) -> None:
        draw, conn, number = random.Random(seed), self.connect(), seed * 10_000_000
        try:
            while time.monotonic() < ends:
                batch = [self.email(draw, number + n) for n in range(draw.choice([1, 5, 20, 40]))]
                number += len(batch)
                self.judge(draw, conn, batch, grant(conn, batch, *LIMITS, slack=SLACK))
        except Exception as error:  # noqa: BLE001 - the test looks at what came
            self.errors.append(error)

    def email(self, draw, id_):
        to = {
            f"u{draw.randrange(150)}@p{draw.randrange(6)}.example" for _ in range(draw.choice([1, 1, 1, 3]))
        }
        return subject(id_, *to, queue=draw.choice(["marketing", "system"]), tenant=draw.choice(["", "a", "b"]),
            campaign=draw.choice([None, "may", "june"]))  # fmt: skip

    def judge(self, draw, conn, batch, verdicts):
        unused = []
        with self.mutex:
            self.batches += 1
            for email, verdict in zip(batch, verdicts, strict=True):
                if verdict.granted and draw.random() < 0.1:
                    unused.append(subject(email.id, *email.recipients, queue=email.queue, tenant=email.tenant,
                        campaign=email.campaign, granted_at=verdict.granted_at))  # fmt: skip
                elif verdict.granted:
                    arrived = verdict.granted_at + SLACK * draw.random()
                    for key in self.keys(email):
                        self.arrivals[key].append(arrived)
        if unused:
            give_back(conn, unused, *LIMITS)

    def keys(self, email):
        for address in email.recipients:
            yield "recipient", address
            yield "provider_minute", address.rpartition("@")[2]
            yield "provider_day", address.rpartition("@")[2]
        yield from ((kind, key) for kind, key in (
            ("tenant", email.tenant), ("queue", email.queue), ("campaign", email.campaign)) if key)  # fmt: skip


def rule(kind: str, key: str) -> Limit | None:
    return next((one for one in LIMITS if one.kind == kind and one.key in (None, key)), None)


def test_four_connections_exceed_no_limit_in_any_true_sliding_window_and_never_deadlock(connect):
    rush = Rush(connect)
    rush.run(4, SECONDS)
    assert rush.errors == []
    assert sum(map(len, rush.arrivals.values())) > 100
    for (kind, key), instants in rush.arrivals.items():
        if one := rule(kind, key):
            assert most_within(instants, one.per) <= one.most, (kind, key)
    print(f"{rush.batches} batches in {SECONDS} s")


def test_four_connections_fill_what_is_allowed(connect):
    one, grants = Limit("provider_minute", None, 50, WINDOW), []

    def work(seed: int, ends: float) -> None:
        conn, number = connect(), seed * 1_000_000
        while time.monotonic() < ends:
            number += 10
            batch = [subject(number + n, f"u{number + n}@x.example") for n in range(10)]
            grants.extend(v.granted_at for v in grant(conn, batch, one, slack=SLACK) if v.granted)

    ends = time.monotonic() + 5
    threads = [threading.Thread(target=work, args=(n, ends)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lasted = max(grants) - min(grants)
    assert most_within(grants, WINDOW + SLACK) <= 50
    assert len(grants) >= 0.95 * 50 * lasted / (WINDOW + SLACK), (len(grants), lasted)


def waits(look: psycopg.Connection, waiter: psycopg.Connection) -> bool:
    return look.execute(
        "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s", (waiter.info.backend_pid,)
    ).fetchone()[0]


class TestRule20:
    def asked_behind_a_lock(
        self, connect, hold: str, email, *, wait: float
    ) -> tuple[limit.Verdict, datetime]:
        """The verdict of a grant that had to wait, and an instant at which it still waited."""
        holder, asker, look = connect(), connect(), connect()
        grant(look, [subject(1, "ada@x.example")], *self.limits)
        holder.autocommit = False
        holder.execute(hold)
        found: list[limit.Verdict] = []
        thread = threading.Thread(target=lambda: found.extend(grant(asker, [email], *self.limits)))
        thread.start()
        until(lambda: waits(look, asker), what="the grant to wait")
        start = time.monotonic()
        until(
            lambda: time.monotonic() > start + wait,
            what="a wait that is longer than it may be",
        )
        still_waiting = look.execute("select clock_timestamp()").fetchone()[0]
        holder.commit()
        thread.join()
        return found[0], still_waiting

    limits = (THREE_AN_HOUR, Limit("provider_minute", None, 10, MINUTE))

    def stored(self, conn, key):
        rows = conn.execute(
            "select at from outboxd.recipient_count where key = outboxd.recipient_key(%s)", (key,)
        ).fetchone()
        window = conn.execute("select at from outboxd.window_count where key = 'x.example'").fetchone()
        return rows[0][-1], window[0][-1]

    def test_a_grant_is_stamped_after_it_waited_for_its_mailbox(self, connect):
        verdict, waited = self.asked_behind_a_lock(
            connect, "select from outboxd.recipient_count for update", subject(2, "ada@x.example"), wait=0.1
        )
        assert verdict.granted_at >= waited
        assert min(self.stored(connect(), "ada@x.example")) >= waited

    def test_a_new_mailbox_is_stamped_after_the_wait_for_its_provider(self, connect):
        verdict, waited = self.asked_behind_a_lock(
            connect,
            "select from outboxd.window_count for update",
            subject(2, "new@x.example"),
            wait=PATIENCE + 0.05,
        )
        assert verdict.granted_at >= waited
        assert min(self.stored(connect(), "new@x.example")) >= waited


def test_a_share_of_a_mailbox_that_comes_free_while_a_grant_waits_is_granted(connect):
    """Refused as of before the wait, it would be free as of after it: a whole window later."""
    holder, asker, look, short = connect(), connect(), connect(), timedelta(seconds=1)
    limits = (Limit("recipient", None, 1, short), Limit("provider_minute", None, 10, MINUTE))
    first = grant(look, [subject(1, "ada@x.example")], *limits, slack=timedelta(0))[0].granted_at
    found: list[limit.Verdict] = []
    with holder.transaction():
        holder.execute("select from outboxd.window_count for update")
        ask = [subject(2, "ada@x.example")]
        thread = threading.Thread(target=lambda: found.extend(grant(asker, ask, *limits, slack=timedelta(0))))
        thread.start()
        until(lambda: waits(look, asker), what="the grant to wait")
        assert look.execute("select clock_timestamp()").fetchone()[0] < first + short, (
            "the share is not free yet"
        )
        free = first + short + timedelta(milliseconds=60)
        until(
            lambda: look.execute("select clock_timestamp() > %s", (free,)).fetchone()[0],
            what="the share to come free",
        )
    thread.join()
    assert granted(found) == [2]


def test_a_refusal_that_had_to_wait_leaves_no_share_in_a_new_mailbox(connect):
    holder, asker, look = connect(), connect(), connect()
    limits = (THREE_AN_HOUR, Limit("tenant", None, 1, HOUR))
    grant(look, [subject(1, "ada@x.example", tenant="a")], *limits)
    found: list[limit.Verdict] = []
    with holder.transaction():
        holder.execute("select from outboxd.window_count for update")
        ask = [subject(2, "new@x.example", tenant="a")]
        thread = threading.Thread(target=lambda: found.extend(grant(asker, ask, *limits)))
        thread.start()
        until(lambda: waits(look, asker), what="the grant to wait")
        start = time.monotonic()
        until(lambda: time.monotonic() > start + 0.1, what="the new row's stamp to be too old")
    thread.join()
    assert granted(found) == []
    stored = "select emails from outboxd.recipient_count where key = outboxd.recipient_key('new@x.example')"
    assert look.execute(stored).fetchone() == ([],)


@pytest.mark.parametrize("name", ["lock_windows", "take_shares"])
def test_windows_are_locked_in_the_order_of_their_columns(connect, name):
    """A parameter sorts by the database's collation, a column by C: in en_US `autumn` comes before `Spring`, in C behind."""
    (text,) = connect().execute(
        "select pg_get_functiondef(oid) from pg_proc where proname = %s and pronamespace = 'outboxd'::regnamespace",
        (name,),
    ).fetchone()  # fmt: skip
    orders = [line.strip() for line in text.splitlines() if "order by" in line]
    assert orders == ['order by given.kind collate "C", given.key collate "C"']


def test_two_first_asks_for_a_new_key_are_not_both_granted_the_last_share(connect):
    a, b, look = connect(), connect(), connect()
    one = Limit("provider_minute", None, 1, MINUTE)
    found: list[limit.Verdict] = []
    with a.transaction():
        first = grant(a, [subject(1)], one)
        thread = threading.Thread(target=lambda: found.extend(grant(b, [subject(2)], one)))
        thread.start()
        until(lambda: waits(look, b), what="the second to wait for the first")
    thread.join()
    assert (granted(first), granted(found)) == ([1], [])


def test_a_grant_that_is_rolled_back_took_nothing(connect):
    a, one = connect(), Limit("provider_minute", None, 1, MINUTE)
    with a.transaction(force_rollback=True):
        assert grant(a, [subject(1)], one, THREE_AN_HOUR)[0].granted
    assert grant(connect(), [subject(2)], one, THREE_AN_HOUR)[0].granted


def test_pruning_between_two_asks_for_a_key_loses_no_grant(connect):
    a, b, look = connect(), connect(), connect()
    one = Limit("recipient", None, 1, HOUR)
    grant(a, [subject(1)], one, now=datetime(2020, 1, 1, tzinfo=UTC))
    found: list[limit.Verdict] = []
    with a.transaction():
        assert limit.prune(a) == 1
        thread = threading.Thread(target=lambda: found.extend(grant(b, [subject(2)], one)))
        thread.start()
        until(lambda: waits(look, b), what="the ask to wait for the pruning")
    thread.join()
    assert granted(found) == [2]
    assert not grant(a, [subject(3)], one)[0].granted


def test_what_was_granted_is_remembered_after_an_immediate_stop(local_server):
    with psycopg.connect(local_server.url, autocommit=True) as admin:
        admin.execute("create database limits")
    url = local_server.url_for("limits")
    migrate(url)
    limits = (THREE_AN_HOUR, Limit("queue", None, 3, HOUR))
    with psycopg.connect(url, autocommit=True) as conn:
        assert len(granted(grant(conn, [subject(n) for n in range(3)], *limits))) == 3
    local_server.stop("immediate")
    local_server.start()
    with psycopg.connect(url, autocommit=True) as conn:
        (mailbox,) = grant(conn, [subject(9)], limits[0])
        (window,) = grant(conn, [subject(9, type="reset")], limits[1])
    assert (mailbox.kind, window.kind) == ("recipient", "queue")
