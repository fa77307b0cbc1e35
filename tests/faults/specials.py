"""Rarer faults: poison, a pinned horizon, too few connections, keys that grew old, terminated sessions, SIGTERM."""

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psycopg
from waiting import until

from outboxd.sink.options import Fault

from . import clock, disk, standby, upgrade
from .history import Cancel, Insert
from .plan import Step

if TYPE_CHECKING:
    from .injectors import Injector
    from .world import World

POISON = (
    {"subject": "a\r\nBcc: x@evil.example"},
    {"to": '"a@evil.example x"@ok.example'},
    {"headers": {"Bcc": "x@evil.example"}},
    {"from": "nobody"},
    {"html": "", "text": ""},
    {"attachments": [{"filename": "a", "path": "file:///etc/passwd"}]},
    {"tags": [{"name": "outboxd_uid", "value": "x"}]},
    {"subject": "nul \x00"},
    {"to": [f"u{n}@example.org" for n in range(51)]},
)
HOSTILE = (
    {"subject": "\u202egnp.exe \u0600"},
    {"html": "<p>" + "x" * 1_000_000 + "</p>"},
    {"headers": {"X-Deep": json.dumps([[[[1]]]])}},
    {"subject": "💥" * 200},
    {"to": ["fault+422@example.org"]},
    {"to": ["fault+500@example.org"], "once": True},
)
REFUSED = 8  # emails
FORGET_RATE = """
update outboxd.account
set adapted = null, adapted_at = null, overran_at = null, next_at = least(next_at, clock_timestamp())
"""
AGED_WITHIN = 15.0  # seconds until there is something with an open answer to grow old
OPEN = 0.3  # of the answers; where most fail, the breaker opens, and no batch is asked
TERMINATE = (
    "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'outboxd %'"
)
AGE_BATCH = """
with waiting as (
  select batch.batch_uid from outboxd.batch where batch.ambiguous and batch.due_at is not null
  for update skip locked limit 1
), old as (
  update outboxd.batch set first_asked_at = batch.first_asked_at - interval '24 h'
  where batch.batch_uid = any (array(select waiting.batch_uid from waiting)) returning batch.batch_uid
)
select old.batch_uid::text, email.uid::text
from old
join outboxd.batch_member on batch_member.batch_uid = old.batch_uid
join outboxd.email on email.id = batch_member.id
"""
LEASES = "select count(*) from outboxd.lease where worker = %s"
ENDS_WITHIN = 3.0  # seconds from SIGTERM: an ask's deadline, which is 1 s in a storm, and 2 s
BUSY = 2.0  # seconds more, for a machine that does other things meanwhile


def poison(injector: "Injector") -> None:
    """Rows that no daemon should like: refused at the INSERT, or sent, or parked with a reason; never a crash."""
    began, refused = time.time(), 0
    with injector.world.connect("app poison") as conn:
        for fields in POISON:
            try:
                conn.execute(
                    "insert into outboxd.email (type, payload) values ('welcome', %s)",
                    (_body("never@x.org", fields),),
                )
            except (psycopg.DataError, psycopg.IntegrityError):
                refused += 1
        assert refused == len(POISON), f"{refused} of {len(POISON)} poisoned rows were refused"
        for fields in HOSTILE:
            _hostile(injector, conn, dict(fields))
    injector.world.note("poison", f"{refused} refused, {len(HOSTILE)} inserted", began)
    injector.world.marks["poison"] += 1


def _hostile(injector: "Injector", conn: psycopg.Connection, fields: dict) -> None:
    marker = f"poison{next(injector.count)}@example.org"
    most = 2 if fields.pop("once", False) else None
    if "to" in fields:
        fields["to"] = [marker, *fields["to"]]
    conn.execute(
        "insert into outboxd.email (type, payload, max_attempts) values ('welcome', %s, %s)",
        (_body(marker, fields), most),
    )
    injector.world.applications[0].record.inserts.append(Insert(marker, "acked", time.time(), relaxed=True))


def _body(marker: str, fields: dict) -> str:
    body = {"from": "Shop <hi@shop.example>", "to": [marker], "subject": "Hello", "html": "<p>Hi</p>"}
    return json.dumps(body | fields)


def pinned(injector: "Injector") -> None:
    """A transaction that keeps vacuum from working, for a while."""
    world, began = injector.world, time.time()
    holder = psycopg.connect(world.postgres.url, application_name="holder")
    holder.execute("set transaction isolation level repeatable read")
    holder.execute("select count(*) from outboxd.email")

    def end() -> None:
        try:
            holder.execute("select")
            world.marks["pinned"] += 1
        except psycopg.OperationalError:  # a stop of the server ended it early
            injector.missed.append(Step("pinned"))
        holder.close()
        world.note("pinned", "a repeatable read transaction", began)

    injector.later(2 * world.plan.lasts, end)


def crowded(injector: "Injector") -> None:
    """No connection is left for anybody, until a daemon that reconnects was refused one (53300)."""
    injector.wait_free("pg")
    world, began = injector.world, time.time()
    taken: list[psycopg.Connection] = []
    network = world.proxies.network
    before = network.crowded_out

    def crowd() -> bool:
        conn.execute(TERMINATE)
        with contextlib.suppress(psycopg.OperationalError):
            while len(taken) < 100:
                taken.append(psycopg.connect(world.postgres.url, application_name="crowd"))
        return network.crowded_out > before

    try:
        with world.connect("faults") as conn:
            until(crowd, what="a daemon to be refused for want of a connection")
            threading.Event().wait(world.plan.lasts / 2)
    finally:
        for one in taken:
            one.close()
    world.note("crowded", f"{network.crowded_out - before} sessions refused", began)
    world.marks["crowded"] += 1


def aged(injector: "Injector") -> None:
    """Let 24 hours pass for emails and a batch whose answer is open: first asks grow old, the provider forgets the keys."""
    world = injector.world
    injector.wait_free("")  # neither a zombie nor a slow proxy asks for them later
    with world.connect("faults") as conn:
        conn.execute(FORGET_RATE)  # lowered a day ago; else batches may wait behind more urgent mail
    world.running.provider.control({"faults": (Fault("accept-reset", OPEN),)})
    try:
        until(lambda: _age(injector), within=AGED_WITHIN, what="emails with an open answer in ready")
        until(lambda: _age_batch(injector), within=AGED_WITHIN, what="a batch with an open answer that waits")
    finally:
        world.running.provider.control({"faults": ()})


def _age(injector: "Injector") -> bool:
    world, began = injector.world, time.time()
    with psycopg.connect(world.postgres.url, application_name="faults") as conn:
        conn.execute("set local synchronous_commit = on")  # a crash must not make them young again
        found = conn.execute(
            "select ready.id, email.uid from outboxd.ready join outboxd.email on email.id = ready.id"
            " join outboxd.progress on progress.id = ready.id where progress.ambiguous for update of ready skip locked limit 5"
        ).fetchall()
        if not found:
            return False
        ids = [id_ for id_, _ in found]
        conn.execute(
            "update outboxd.progress set first_asked_at = first_asked_at - interval '24 h' where id = any(%s)",
            (ids,),
        )
        _forget(world, "POST /emails", [f"obx1.{uid}.1" for _, uid in found])
        world.aged.update({str(uid): time.time() for _, uid in found})
        conn.commit()
    world.note("aged", f"{len(found)} emails", began)
    return True


def _age_batch(injector: "Injector") -> bool:
    world, began = injector.world, time.time()
    with psycopg.connect(world.postgres.url, application_name="faults") as conn:
        conn.execute("set local synchronous_commit = on")
        found = conn.execute(AGE_BATCH).fetchall()
        if not found:
            return False
        _forget(world, "POST /emails/batch", [f"obxb1.{batch}.1" for batch in {row[0] for row in found}])
        world.aged.update({uid: time.time() for _, uid in found})
        conn.commit()
    world.note("aged", f"a batch of {len(found)}", began)
    world.marks["aged"] += 1
    return True


def _forget(world: "World", call: str, keys: list[str]) -> None:
    provider = world.running.provider
    with provider._lock:
        for key in keys:
            provider._keys._known.pop((call, key), None)


def refused(injector: "Injector") -> None:
    """Emails whose first ask is accepted without an answer, and whose second one meets a definite refusal: they stay open."""
    world, began = injector.world, time.time()
    with world.connect("app refused") as conn:
        for _ in range(REFUSED):
            _hostile(injector, conn, {"to": ["fault+accept-reset.1@example.org", "fault+429.1@example.org"]})
    until(lambda: _refused(world), what="an email with an open answer to be refused")
    world.note("refused", f"{REFUSED} emails", began)
    world.marks["refused"] += 1


def _refused(world: "World") -> bool:
    entries = list(world.running.provider.entries)
    return any(entry.fault == "429" and "fault+accept-reset.1@example.org" in entry.to for entry in entries)


def regretted(injector: "Injector") -> None:
    """An application takes emails back that the provider has accepted already."""
    world, began = injector.world, time.time()
    with world.connect("app regretted") as conn:
        before = next(injector.count)
        for _ in range(REFUSED):
            _hostile(injector, conn, {})
        markers = {f"poison{n}@example.org" for n in range(before + 1, before + 1 + REFUSED)}
        until(lambda: markers <= world.asked_for(), what="the emails to be asked for")
        found = conn.execute(
            "select uid::text, outboxd.cancel(uid) from outboxd.email where recipients[1] = any (%s)",
            (list(markers),),
        ).fetchall()
    cancels = world.applications[0].record.cancels
    cancels += [Cancel(uid, "acked", time.time(), certain) for uid, certain in found]
    world.note("regretted", f"{len(found)} emails", began)
    world.marks["regretted"] += 1


def vanished(injector: "Injector") -> None:
    """Postgres crashes as soon as emails are asked for whose application did not wait for the disk."""
    world, began = injector.world, time.time()
    for _ in range(3):
        with world.connect("app vanished") as conn:
            conn.execute("set synchronous_commit = off")
            before = next(injector.count)
            _hostile(injector, conn, {})
        until(
            lambda marker=f"poison{before + 1}@example.org": marker in world.asked_for(),
            what="the email to be asked for",
        )
        world.postgres.stop("immediate")
        world.postgres.start()
    world.note("postgres", "immediate", began)
    world.marks["vanished"] += 1


def terminated(injector: "Injector") -> None:
    """Every session of every daemon is ended by an administrator."""
    began = time.time()
    with injector.world.connect("faults") as conn:
        ended = until(lambda: conn.execute(TERMINATE).fetchone()[0], what="a session of a daemon to end")
    injector.world.note("terminated", f"{ended} sessions", began)
    injector.world.marks["terminated"] += 1


def sigterm(injector: "Injector") -> None:
    """An orderly stop at any moment: it ends in time, and leaves no lease."""
    injector.wait_free("")
    world, began = injector.world, time.time()
    slot = injector.luck.choice(injector.running())
    world.wait_running(slot, injector.all_run)
    slot.signal(signal.SIGTERM)
    try:
        code = world.fleet.wait(slot, ENDS_WITHIN + BUSY)
    except AssertionError as error:
        slot.signal(signal.SIGUSR1)  # it says where its threads are
        threading.Event().wait(0.5)
        raise AssertionError(f"{error} after SIGTERM: {slot.log.read_text()[-6000:]}") from None
    took, told = time.time() - began, slot.log.read_text()
    assert code == 0, f"SIGTERM ended with {code} after {took:.1f} s: {told[-600:]}"
    with world.connect() as conn:
        left = conn.execute(LEASES, (_worker(told),)).fetchone()[0]
    assert left == 0, f"SIGTERM left {left} leases: {told[-600:]}"
    world.note("sigterm", f"exit {code} after {took:.1f} s", began)
    world.marks["sigterm"] += 1
    world.fleet.start(slot)


def _worker(log: str) -> str:
    """As it named itself when it began to run."""
    return next(json.loads(line)["worker"] for line in log.splitlines() if '"outboxd runs"' in line)


RUN: dict[str, Callable[["Injector"], None]] = {
    "poison": poison, "pinned": pinned, "crowded": crowded, "aged": aged, "refused": refused, "regretted": regretted, "vanished": vanished, "terminated": terminated, "sigterm": sigterm,
    "disk data": disk.full("data"), "disk wal": disk.full("wal"),
    "upgrade": upgrade.upgrade,
    "clock server 30": clock.server(30), "clock server 600": clock.server(600), "clock daemon": clock.daemon,
    "promotion synchronous": standby.synchronous, "promotion asynchronous": standby.asynchronous,
}  # fmt: skip
