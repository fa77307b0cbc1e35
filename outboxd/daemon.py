"""The daemon: builds the parts, starts their threads, obeys signals.

Stopping, on SIGTERM or SIGINT: claim no more, hand back what was not asked, let what is on the wire finish, settle all
of it, exit 0. A second signal hurries: what is on the wire is left to its lease, and its answer, if it comes, to the
same key. No attempt is burned either way.
"""

import functools
import logging
import queue
import signal
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from types import FrameType
from typing import Any, Final
from uuid import UUID, uuid4

from outboxd import telemetry
from outboxd.config import Config
from outboxd.core import wire
from outboxd.core.email import Frozen
from outboxd.core.outcome import Returned
from outboxd.db import latency, migrate, worker
from outboxd.db.policy import Policies
from outboxd.db.session import Connection, ConnectionLostError, Session, StoppedError
from outboxd.db.wake import Doorbell
from outboxd.delivery.brake import Brake
from outboxd.delivery.claimer import Claimer, claim_all
from outboxd.delivery.hand import Hand
from outboxd.delivery.reclaimer import Reclaimer
from outboxd.delivery.sender import Result, Sending, send_all
from outboxd.delivery.settler import Settler, settle_all
from outboxd.loop import every, spawn
from outboxd.resend.client import Client, shared_ssl_context
from outboxd.web.health import Report, start_health

log = logging.getLogger(__name__)

TAG: Final = "outboxd_uid"
MARGIN: Final = timedelta(seconds=5)  # between an ask's deadline and the end of its lease
FLUSH: Final = timedelta(seconds=10)  # for the last settle, after the last answer
WATCH: Final = timedelta(seconds=0.9)  # between two looks for expired leases and changed policy
STUCK: Final = 30.0  # seconds without a round of the claimer


@dataclass(slots=True)
class Daemon:
    """The running parts, for the stop and for health."""

    config: Config
    worker: UUID
    stop: threading.Event
    give_up: threading.Event
    bell: Doorbell
    hand: Hand
    settler: Settler
    claimer: Claimer
    reclaimer: Reclaimer
    keeper: Session
    senders: list[threading.Thread] = field(default_factory=list)
    loops: list[threading.Thread] = field(default_factory=list)
    path: list[threading.Thread] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)


def run(config: Config) -> int:
    """Run until a signal; the exit code: 0 drained, 1 a part died or the drain had to be cut short."""
    migrate.check(config.database.url.reveal())
    daemon = build(config)
    previous = _obey_signals(daemon)
    start(daemon)
    health = start_health(config.health.listen, lambda: _live(daemon), lambda: _ready(daemon))
    log.info("outboxd runs", extra={"version": version("outboxd"), "worker": str(daemon.worker)})
    try:
        daemon.stop.wait()
        clean = drain(daemon)
    finally:
        health.stop()
        telemetry.shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)
    log.info("outboxd stopped", extra={"clean": clean, "crashed": daemon.crashed})
    return 0 if clean and not daemon.crashed else 1


def build(config: Config) -> Daemon:
    """The parts, connected to each other; nothing runs and nothing is opened yet."""
    url = config.database.url.reveal()
    listen_url = (config.database.listen_url or config.database.url).reveal()
    stop, give_up, policies = threading.Event(), threading.Event(), Policies()
    bell = Doorbell(listen_url, stop=stop)
    hand = Hand(config.sender.threads)
    settler = Settler(
        Session(url, "settler", stop=give_up), policies, give_up, queue.SimpleQueue(), bell.ring
    )
    who = uuid4()
    claimer = Claimer(
        session=Session(url, "claimer", stop=stop),
        bell=bell,
        hand=hand,
        settler=settler,
        worker=who,
        home=Frozen(wire.LATEST, TAG, config.resend.account, config.resend.api_url),
        ttl=config.sender.lease,
        need=(config.resend.deadline + MARGIN).total_seconds(),
        stop=stop,
    )
    reclaimer = Reclaimer(Session(url, "reclaimer", stop=stop), config.sender.crash_limit, policies)
    keeper = Session(url, "keeper", stop=give_up)
    return Daemon(config, who, stop, give_up, bell, hand, settler, claimer, reclaimer, keeper)


def start(daemon: Daemon) -> None:
    """Open the clients and start every thread."""
    brake, need = Brake(), daemon.claimer.need
    daemon.path.append(_spawn(daemon, "settler", lambda: settle_all(daemon.settler)))
    tls = shared_ssl_context()
    sending = Sending(daemon.hand, brake, daemon.settler.report, daemon.stop, need)
    for number in range(daemon.config.sender.threads):
        client = _client(daemon.config, tls)
        daemon.senders.append(
            _spawn(daemon, f"sender {number}", functools.partial(send_all, sending, client))
        )
    _in_transaction(daemon, daemon.settler.policies.refresh)
    daemon.loops += [
        _spawn(daemon, "listener", daemon.bell.listen),
        _spawn(daemon, "claimer", lambda: claim_all(daemon.claimer)),
        _loop(daemon, "reclaimer", WATCH, daemon.reclaimer.round),
        _loop(daemon, "keeper", timedelta(seconds=10), lambda: _keep(daemon)),
    ]


def drain(daemon: Daemon) -> bool:
    """Hand back, finish, settle; True where everything in hand has its outcome."""
    deadline = time.monotonic() + (daemon.config.resend.deadline + FLUSH).total_seconds()
    daemon.bell.ring()
    daemon.bell.close()
    _join(daemon.loops, deadline)
    for held in daemon.hand.close():
        daemon.settler.report(Result(held, Returned(), None))
    _join(daemon.senders, deadline, hurry=daemon.give_up)
    daemon.settler.finish()
    _join(daemon.path, deadline, hurry=daemon.give_up)
    clean = not any(thread.is_alive() for thread in (*daemon.senders, *daemon.path))
    daemon.give_up.set()
    _say_goodbye(daemon)
    return clean


def _client(config: Config, tls: ssl.SSLContext) -> Client:
    return Client(
        config.resend.api_url,
        config.resend.api_key.reveal,
        deadline=config.resend.deadline,
        ssl_context=tls,
    )


def _keep(daemon: Daemon) -> None:
    """Every ten seconds: beat, keep partitions ahead and old figures few."""
    _in_transaction(daemon, lambda conn: _keep_round(daemon, conn))


def _keep_round(daemon: Daemon, conn: Connection) -> None:
    worker.beat(
        conn, daemon.worker, version=version("outboxd"), threads=daemon.config.sender.threads,
        stopping=daemon.stop.is_set(),
    )  # fmt: skip
    if made := worker.extend_partitions(conn):
        log.info("made partitions", extra={"tables": made})
    latency.prune(conn)


def _in_transaction(daemon: Daemon, work: Callable[[Connection], object]) -> None:
    try:
        daemon.keeper.run(work)
    except ConnectionLostError:
        log.warning("keeper lost its connection")
    except StoppedError:
        return


def _say_goodbye(daemon: Daemon) -> None:
    """Leave the workers table, if that costs no waiting."""
    if daemon.keeper.connected.is_set():
        _in_transaction(daemon, lambda conn: worker.forget(conn, daemon.worker))
    for session in (daemon.keeper, daemon.settler.session, daemon.claimer.session, daemon.reclaimer.session):
        session.close()


def _spawn(daemon: Daemon, name: str, target: Callable[[], object]) -> threading.Thread:
    def on_crash(name: str) -> None:
        daemon.crashed.append(name)
        daemon.stop.set()

    return spawn(name, target, on_crash)


def _loop(daemon: Daemon, name: str, interval: timedelta, work: Callable[[], object]) -> threading.Thread:
    return _spawn(daemon, name, lambda: every(interval, work, daemon.stop, name=name))


def _join(threads: list[threading.Thread], deadline: float, *, hurry: threading.Event | None = None) -> None:
    for thread in threads:
        while thread.is_alive() and time.monotonic() < deadline and not (hurry and hurry.is_set()):
            thread.join(0.05)


def _obey_signals(daemon: Daemon) -> dict[signal.Signals, Any]:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if daemon.stop.is_set():
            daemon.give_up.set()
        daemon.stop.set()

    return {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}


def _live(daemon: Daemon) -> Report:
    idle = time.monotonic() - daemon.claimer.progress_at
    problems = [f"{name} died" for name in daemon.crashed]
    if daemon.claimer.session.connected.is_set() and idle > STUCK:
        problems.append(f"no claim round for {idle:.0f} s")
    return Report(
        not problems, problems, {"in_hand": len(daemon.hand.stale()), "asking": daemon.hand.asking()}
    )


def _ready(daemon: Daemon) -> Report:
    sessions = {"claimer": daemon.claimer.session, "settler": daemon.settler.session}
    problems = [] if daemon.claimer.session.connected.is_set() else ["no connection to Postgres"]
    if daemon.stop.is_set():
        problems.append("stopping")
    return Report(not problems, problems, {name: s.connected.is_set() for name, s in sessions.items()})
