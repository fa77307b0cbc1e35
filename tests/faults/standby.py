"""Promotion of a standby: a synchronous one has everything, an asynchronous one has lost what it had not yet heard."""

import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import psycopg
from servers import binaries
from waiting import until

from outboxd.db.adoption import adopt
from outboxd.db.fence import HELD
from outboxd.localpg import LocalPostgres

from .daemons import KEY
from .history import Cancel, Tail

if TYPE_CHECKING:
    from .injectors import Injector
    from .world import World

RISEN = "select timeline = (select timeline_id from pg_control_checkpoint()) from outboxd.instance"
HELD_ONES = """
select email.uid
from outboxd.email
where (%(went)s::uuid[] is null or email.uid = any (%(went)s))
  and (exists (select from outboxd.ready where ready.id = email.id and ready.lane = %(held)s)
    or exists (select from outboxd.batch_member where batch_member.id = email.id))
"""
BEHIND = 1.5  # seconds of which the asynchronous standby hears nothing


def synchronous(injector: "Injector") -> None:
    """The primary dies; nothing may be missing."""
    world = injector.world
    injector.wait_free("")
    standby = _follower(world, len(world.retired))
    with world.connect("faults") as conn:
        conn.execute("alter system set synchronous_standby_names = '*'")
        conn.execute("select pg_reload_conf()")
        until(
            lambda: conn.execute(
                "select exists (select from pg_stat_replication where sync_state = 'sync')"
            ).fetchone()[0],
            what="the standby to be synchronous",
        )
    began = time.time()
    threading.Event().wait(BEHIND)
    _switch(world, standby)
    world.note("promotion", "synchronous standby", began)
    world.marks["promotion synchronous"] += 1


def asynchronous(injector: "Injector") -> None:
    """The primary dies while the standby hears nothing: what was committed meanwhile is gone."""
    world = injector.world
    injector.wait_free("")
    standby = _follower(world, len(world.retired))
    with world.connect("faults") as conn:
        until(lambda: _caught_up(conn), what="the standby to catch up")
    with psycopg.connect(standby.url, autocommit=True) as conn:
        (receiver,) = conn.execute("select pid from pg_stat_wal_receiver").fetchone()
    for app in world.applications:
        app.loses = True
    began = time.time()
    os.kill(receiver, signal.SIGSTOP)
    threading.Event().wait(BEHIND)
    world.postgres.stop("immediate")
    stopped = time.time()
    os.kill(receiver, signal.SIGCONT)
    _switch(world, standby)
    world.tails.append(Tail(began - 0.5, stopped, time.time()))
    if world.plan.holds:
        _decide(world)
    world.note("promotion", "asynchronous standby", began)
    world.marks["promotion asynchronous"] += 1


def _decide(world: "World") -> None:
    """What an operator does about mail that is held: cancel what the provider's list has, then send the rest."""
    with world.connect("operator") as conn:
        until(lambda: conn.execute(RISEN).fetchone()[0], within=15, what="a daemon to see the promotion")
        threading.Event().wait(1.5 * world.plan.lease)  # what was in hand is back
        went = [
            uid
            for entry in list(world.running.provider.entries)
            if entry.verdict == "new"
            for uid in entry.uids
        ]
        found = conn.execute(HELD_ONES, {"held": HELD, "went": went}).fetchall()
        world.held += len(conn.execute(HELD_ONES, {"held": HELD, "went": None}).fetchall())
        for (uid,) in found:
            conn.execute("select outboxd.cancel(%s)", (uid,))
            world.applications[0].record.cancels.append(Cancel(str(uid), "acked", time.time()))
    adopt(world.postgres.url, "send", environment="production", api_key=KEY, note=str)


def _follower(world: "World", number: int) -> LocalPostgres:
    """A hot standby of what is the primary now."""
    from .world import SETTINGS

    primary, tools = world.postgres, binaries("18")
    target = primary._home / f"standby-{number}"
    command = [*primary._wrap, tools / "pg_basebackup", "-h", primary._home, "-p", str(primary._port)]
    subprocess.run(
        [*command, "-U", "postgres", "-D", target, "-c", "fast", "-R"], check=True, capture_output=True
    )
    standby = LocalPostgres(SETTINGS, bin_dir=tools, data_dir=target)
    world.retired.append(standby)  # to be closed at the end, whatever happens
    standby.start()
    with world.connect("faults") as conn:
        until(
            lambda: conn.execute("select exists (select from pg_stat_replication)").fetchone()[0],
            what="the standby",
        )
    return standby


def _caught_up(conn: psycopg.Connection) -> bool:
    found = conn.execute(
        "select bool_and(replay_lsn >= pg_current_wal_lsn() - 100000) from pg_stat_replication"
    )
    return bool(found.fetchone()[0])


def _switch(world: "World", standby: LocalPostgres) -> None:
    """The old primary is dead; the address of the database leads to the standby from now on."""
    old = world.postgres
    old.stop("immediate")
    with psycopg.connect(standby.url, autocommit=True) as conn:
        conn.execute(
            "select pg_promote(false)"
        )  # one statement that waits for it would be in the way of what is replayed
        until(
            lambda: conn.execute("select not pg_is_in_recovery()").fetchone()[0],
            within=60,
            what="the promotion",
        )
        conn.execute("alter system reset synchronous_standby_names")
        conn.execute("select pg_reload_conf()")
    world.retired = [one for one in world.retired if one is not standby] + [old]
    world.postgres = standby
    world.retarget()
