"""The daemon: builds the parts, starts their threads, obeys signals.

Stopping, on SIGTERM or SIGINT: claim no more, hand back what was not asked, let what is on the wire finish, settle all
of it, exit 0. A second signal hurries: what is on the wire is left to its lease, and its answer, if it comes, to the
same key. No attempt is burned either way.
"""

import functools
import logging
import os
import queue
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from typing import Final
from uuid import UUID, uuid4

from outboxd import telemetry
from outboxd.attend import Attendant, attend, obeying_signals
from outboxd.config import Config, environment
from outboxd.core import wire
from outboxd.core.email import Frozen
from outboxd.core.outcome import Returned
from outboxd.db import contract
from outboxd.db.fence import Fence
from outboxd.db.policy import Policies
from outboxd.db.session import Session
from outboxd.db.wake import Doorbell
from outboxd.delivery.admission import Admission
from outboxd.delivery.binder import Binder, bind_all
from outboxd.delivery.brake import Brake
from outboxd.delivery.breakers import Breakers
from outboxd.delivery.claimer import Claimer, claim_all
from outboxd.delivery.hand import Hand
from outboxd.delivery.leasing import Leasing
from outboxd.delivery.pacer import Pacer
from outboxd.delivery.pauses import Pauses
from outboxd.delivery.reclaimer import Reclaimer
from outboxd.delivery.sender import Result, Sending, send_all
from outboxd.delivery.settler import Settler, settle_all
from outboxd.delivery.slowstart import SlowStart
from outboxd.delivery.steady import steady
from outboxd.loop import every, spawn
from outboxd.providers import Providers, resolve_mx
from outboxd.reload import Live
from outboxd.resend.client import Client, shared_ssl_context
from outboxd.systemd import Notifier
from outboxd.upkeep import Keeper
from outboxd.vitals import Vitals
from outboxd.web.health import start_health

log = logging.getLogger(__name__)

TAG: Final = "outboxd_uid"
MARGIN: Final = timedelta(seconds=5)  # between an ask's deadline and the end of its lease
FLUSH: Final = timedelta(seconds=10)  # for the last settle, after the last answer
WATCH: Final = timedelta(seconds=0.9)  # between two looks for expired leases and changed policy
UNHEARD: Final = (
    2.5  # seconds without an answer to the listener, whose questions cost nothing: within 10 s it hears again
)
STALLED: Final = 20.0  # seconds without an answer to a statement; more than any statement_timeout, but where `patient` says so


@dataclass(slots=True)
class Daemon:
    """The running parts, for the stop and for health."""

    config: Config
    live: Live
    worker: UUID
    stop: threading.Event
    give_up: threading.Event
    bell: Doorbell
    sending: Sending
    settler: Settler
    claimer: Claimer
    binder: Binder
    pacer: Pacer
    reclaimer: Reclaimer
    keeper: Keeper
    senders: list[threading.Thread] = field(default_factory=list)
    loops: list[threading.Thread] = field(default_factory=list)
    binding: list[threading.Thread] = field(default_factory=list)
    path: list[threading.Thread] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    on_reload: list[Callable[[], object]] = field(default_factory=list)
    time_scale: float = 1.0
    vitals: Vitals = field(init=False)

    def __post_init__(self) -> None:
        """What they say of themselves."""
        self.vitals = Vitals(
            self.config,
            self.claimer,
            self.settler.session,
            self.sending.hand,
            self.clients,
            self.crashed,
            self.stop,
        )


def run(live: Live, *, time_scale: float = 1.0) -> int:
    """Run until a signal; the exit code: 0 drained, 1 a part died or the drain had to be cut short.

    `time_scale` multiplies the windows of limits; for tests, which have no hour to wait.
    """
    contract.check(live.config.database.url.reveal())
    daemon = build(live, time_scale=time_scale)
    attendant = _attendant(daemon)
    with obeying_signals(attendant):
        start(daemon)
        health = start_health(live.config.health.listen, daemon.vitals.live, daemon.vitals.ready)
        log.info("outboxd runs", extra={"version": version("outboxd"), "worker": str(daemon.worker)})
        try:
            attend(attendant)
            clean = drain(daemon, attendant.notifier.alive)
        finally:
            health.stop()
            telemetry.shutdown()
    log.info("outboxd stopped", extra={"clean": clean, "crashed": daemon.crashed})
    return 0 if clean and not daemon.crashed else 1


def build(live: Live, *, time_scale: float = 1.0) -> Daemon:
    """The parts, connected to each other; nothing runs and nothing is opened yet."""
    config = live.config
    url = config.database.url.reveal()
    listen_url = (config.database.listen_url or config.database.url).reveal()
    stop, give_up, policies = threading.Event(), threading.Event(), Policies(time_scale)
    providers = Providers(resolve_mx)
    admission = Admission(policies, providers.provider_of, rise=lambda: fence.rise)
    bell = Doorbell(listen_url, stop=stop)
    hand, brake, slow = Hand(config.sender.threads), Brake(), SlowStart(config.sender.threads)
    settler = Settler(
        session=Session(url, "settler", stop=give_up, path=True),
        policies=policies,
        admission=admission,
        pauses=Pauses(config.resend.account, rise=lambda: fence.rise),
        breakers=Breakers(config.resend.account, brake.hold),
        give_up=give_up,
        inbox=queue.SimpleQueue(),
        wake=bell.ring,
    )
    doubtful: list[UUID] = []
    binder = Binder(
        session=Session(url, "binder", stop=stop, path=True),
        hand=hand,
        report=settler.report,
        doubtful=doubtful.append,
        ttl=config.sender.lease.total_seconds(),
        stop=stop,
        wake=bell.ring,
    )
    pacer = Pacer(Session(url, "pacer", stop=stop, path=True), config.resend.account, stop, hand.pace)
    who = uuid4()
    fence = Fence(config.environment, live.api_key, hold=config.database.after_failover == "hold")
    leasing = Leasing(
        hand=hand,
        settler=settler,
        admission=admission,
        worker=who,
        home=Frozen(wire.LATEST, TAG, config.resend.account, config.resend.api_url),
        ttl=config.sender.lease,
        bind=binder.take,
        doubtful=doubtful,
        rise=lambda: fence.rise,
    )
    claimer = Claimer(
        session=Session(url, "claimer", stop=stop, path=True),
        bell=bell,
        leasing=leasing,
        need=(config.resend.deadline + MARGIN).total_seconds(),
        stop=stop,
        fence=fence,
        on_ill=slow.start_over,
    )
    reclaimer = Reclaimer(
        Session(url, "reclaimer", stop=stop, path=True), config.sender.crash_limit, policies, wake=bell.ring
    )
    keeper = Keeper(
        session=Session(url, "keeper", stop=give_up),
        scout=Session(url, "scout", stop=stop),
        worker=who,
        threads=config.sender.threads,
        stop=stop,
        providers=providers,
    )
    home, need = leasing.home, claimer.need
    sending = Sending(hand, brake, pacer, home, settler.report, stop, need, slow)
    return Daemon(
        config, live, who, stop, give_up, bell, sending, settler, claimer, binder, pacer, reclaimer, keeper,
        time_scale=time_scale,
    )  # fmt: skip


def start(daemon: Daemon) -> None:
    """Open the clients and start every thread."""
    daemon.path.append(_spawn(daemon, "settler", lambda: settle_all(daemon.settler)))
    daemon.binding.append(_spawn(daemon, "binder", lambda: bind_all(daemon.binder)))
    tls = shared_ssl_context(daemon.config.resend.ca_file)
    _spawn(daemon, "watchdog", lambda: _watch(daemon))
    for number in range(daemon.config.sender.threads):
        client = _client(daemon.live, tls)
        daemon.clients.append(client)
        daemon.senders.append(
            _spawn(daemon, f"sender {number}", functools.partial(send_all, daemon.sending, client))
        )
    daemon.keeper.insist(daemon.settler.policies.refresh)
    daemon.keeper.insist(daemon.keeper.providers.refresh)
    daemon.loops += [
        _spawn(daemon, "listener", daemon.bell.listen),
        _spawn(daemon, "pacer", daemon.pacer.run),
        _spawn(daemon, "claimer", lambda: claim_all(daemon.claimer)),
        _loop(daemon, "reclaimer", WATCH, daemon.reclaimer.round),
        _loop(daemon, "keeper", timedelta(seconds=10), daemon.keeper.round),
        _loop(daemon, "scout", timedelta(seconds=5), daemon.keeper.learn),
    ]


def drain(daemon: Daemon, alive: Callable[[], None]) -> bool:
    """Hand back, finish, settle; True where everything in hand has its outcome. `alive` is called now and then."""
    deadline = time.monotonic() + (daemon.config.resend.deadline + FLUSH).total_seconds()
    daemon.bell.ring()
    daemon.bell.close()
    daemon.pacer.close()
    _join(daemon.loops, deadline, alive)
    daemon.binder.finish()
    _join(daemon.binding, deadline, alive)
    for held in daemon.sending.hand.close():
        daemon.settler.report(Result(held, Returned(), None))
    _join(daemon.senders, deadline, alive, hurry=daemon.give_up)
    daemon.settler.finish()
    _join(daemon.path, deadline, alive, hurry=daemon.give_up)
    clean = not any(thread.is_alive() for thread in (*daemon.senders, *daemon.path))
    daemon.give_up.set()
    _say_goodbye(daemon)
    return clean


def _client(live: Live, tls: ssl.SSLContext) -> Client:
    resend = live.config.resend
    return Client(
        resend.api_url,
        live.api_key,
        deadline=resend.deadline,
        ssl_context=tls,
        proxy=resend.proxy.reveal() if resend.proxy else None,
    )


def _attendant(daemon: Daemon) -> Attendant:
    """The main thread's parts; the first to hear of a reload is what is ours."""
    daemon.on_reload.append(lambda: _apply(daemon))
    return Attendant(
        daemon.stop,
        daemon.give_up,
        Notifier(environment(), pid=os.getpid()),
        daemon.live,
        daemon.claimer.session.connected.is_set,
        daemon.vitals.alive,
        daemon.vitals.status,
        daemon.on_reload,
    )


def _apply(daemon: Daemon) -> None:
    """Settings that are copied where they are used; senders fetch the key for each request, and pauses are probed."""
    daemon.reclaimer.crash_limit = daemon.live.config.sender.crash_limit
    logging.getLogger().setLevel(daemon.live.config.log.level.upper())
    daemon.settler.pauses.mended_at = steady()
    daemon.claimer.fence.key_changed()
    daemon.claimer.probe_soon.set()
    daemon.bell.ring()


def _watch(daemon: Daemon) -> None:
    """Cut connections whose statement gets no answer; through the drain, which may wait for one."""
    every(timedelta(seconds=1), lambda: _cut_stalled(daemon), daemon.give_up, name="watchdog")


def _cut_stalled(daemon: Daemon) -> None:
    daemon.bell.break_if_stalled(UNHEARD)
    for session in _sessions(daemon):
        session.break_if_stalled(STALLED)


def _sessions(daemon: Daemon) -> tuple[Session, ...]:
    parts = (daemon.settler, daemon.claimer, daemon.binder, daemon.pacer, daemon.reclaimer)
    return (daemon.keeper.session, daemon.keeper.scout, *(part.session for part in parts))


def _say_goodbye(daemon: Daemon) -> None:
    """Leave the workers table, if that costs no waiting."""
    daemon.keeper.forget()
    for session in _sessions(daemon):
        session.close()


def _spawn(daemon: Daemon, name: str, target: Callable[[], object]) -> threading.Thread:
    def on_crash(name: str) -> None:
        daemon.crashed.append(name)
        daemon.stop.set()

    return spawn(name, target, on_crash)


def _loop(daemon: Daemon, name: str, interval: timedelta, work: Callable[[], object]) -> threading.Thread:
    return _spawn(daemon, name, lambda: every(interval, work, daemon.stop, name=name))


def _join(
    threads: list[threading.Thread],
    deadline: float,
    alive: Callable[[], None],
    *,
    hurry: threading.Event | None = None,
) -> None:
    for thread in threads:
        while thread.is_alive() and time.monotonic() < deadline and not (hurry and hurry.is_set()):
            alive()
            thread.join(0.05)
