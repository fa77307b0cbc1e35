"""Everything of one run: Postgres, the provider, proxies, daemons, applications, and what is seen of them."""

import itertools
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psycopg
from pooler import Pooler
from servers import FAST, binaries
from waiting import until

from outboxd.localpg import LocalPostgres
from outboxd.sink.server import Running

from .application import Application
from .clock import Clocks
from .daemons import Fleet, Slot, migrate, tcp_url
from .disk import Disks
from .history import Injected, Insert, Limit, Sample, Tail
from .plan import Plan
from .proxy import Proxies
from .upgrade import previous

SETTINGS = FAST | {
    "wal_writer_delay": "10s",  # so that a commit which did not wait is really lost in a crash,
    "wal_writer_flush_after": "1GB",  # however much was written since
    "wal_buffers": "64MB",
    "max_connections": "60",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
}
DRIP = Limit("drip", 20, 4.0)
OFTEN = Limit("often", 10, 2.0)  # of one mailbox, to which every email of the type goes
LIMITS = (DRIP, OFTEN)
RULES = """
alter database postgres set synchronous_commit = off;
create role outboxd_fault_daemon login in role outboxd_daemon;
update outboxd.limit_rule set most = null where most is not null;
update outboxd.queue set backoff_base = '50 ms';
update outboxd.email_type set backoff_base = null, backoff = null, max_attempts = null, give_up_after = null;
update outboxd.queue set batch = false where name = 'transactional';
insert into outboxd.email_type (name, queue) values ('drip', 'transactional') on conflict do nothing;
insert into outboxd.limit_rule (name, kind, key, most, per) values ('drip', 'type', 'drip', {drip.most}, '{drip.per} s');
insert into outboxd.email_type (name, queue) values ('often', 'transactional') on conflict do nothing;
update outboxd.limit_rule set most = {often.most}, per = '{often.per} s', options = jsonb_build_object(
  'exempt_types', jsonb_build_array('welcome', 'newsletter', 'invoice', 'drip')) where name = 'recipient';
insert into outboxd.breaker (account, open_for) values ('default', '300 ms');
"""
BUSY = """
select exists (select from outboxd.batch)
  or exists (select from outboxd.ready join outboxd.email on email.id = ready.id where email.type = any (%(types)s))
  or exists (select from outboxd.lease cross join unnest(lease.ids) as held (id) join outboxd.email on email.id = held.id
    where email.type = any (%(types)s))
"""
RESUME = """
select outboxd.resume(kind, key) from outboxd.pause where since < clock_timestamp() - interval '1 s'
"""
BACKLOG = 1500  # emails that wait, from which on applications rest
FREE = ["welcome", "newsletter", "invoice"]
SESSIONS = """
select count(*), coalesce(max(extract(epoch from clock_timestamp() - xact_start))::float8, 0),
  coalesce(max(application_name || ': ' || left(query, 80)) filter (
    where xact_start < clock_timestamp() - interval '5 s'), '')
from pg_stat_activity where application_name like 'outboxd %%'
"""
PLAIN = """
insert into outboxd.email (type, payload) values (%s, jsonb_build_object(
  'from', 'Shop <hi@shop.example>', 'to', jsonb_build_array(%s::text), 'subject', 'Hello', 'html', '<p>Hi</p>'))
"""
SETTLED = """
select count(*) from outboxd.email join outboxd.delivery using (id) where recipients[1] = any (%s) and state = 'sent'
"""
CRASH_LIMIT = "OUTBOXD_SENDER__CRASH_LIMIT"
HOLDS = {"OUTBOXD_DATABASE__AFTER_FAILOVER": "hold"}
RUNS = "select exists (select from outboxd.worker where pid = %s and extract(epoch from started_at) > %s)"  # numbers come round
STUCK = {
    "ready by queue, lane, and due in": "select queue, lane, priority, count(*), min(scheduled_at - clock_timestamp())::text"
    " from outboxd.ready group by 1, 2, 3",
    "leases": "select cardinality(ids), (lease_until - clock_timestamp())::text from outboxd.lease",
    "batches": "select queue, lane, (due_at - clock_timestamp())::text, attempts, ambiguous, rejected, last_error from outboxd.batch",
    "pauses": "select kind, key, reason, (until - clock_timestamp())::text from outboxd.pause",
    "breaker": "select state, (probe_at - clock_timestamp())::text, cause from outboxd.breaker",
    "sessions": "select application_name, state, wait_event_type, wait_event, (clock_timestamp() - xact_start)::text,"
    " left(query, 60) from pg_stat_activity where xact_start < clock_timestamp() - interval '1 s' and pid <> pg_backend_pid()",
    "lanes": "select id, kind, key, (closed_until - clock_timestamp())::text from outboxd.lane where id > 0",
}


class World:
    """The parts of a run; a context manager. Postgres is started and stopped by the thread that made it."""

    def __init__(
        self, plan: Plan, seed: int, tree: Path, running: Running, *, before: Path | None = None
    ) -> None:
        self.plan, self.seed, self.tree, self.running = plan, seed, tree, running
        self.home = Path(tempfile.mkdtemp(prefix="outboxd-faults-"))
        self.disks = Disks(self.home) if plan.disks else None
        self.postgres = (
            self.disks.server(SETTINGS) if self.disks else LocalPostgres(SETTINGS, bin_dir=binaries("18"))
        )
        self.clocks = Clocks(self.home) if plan.clocks else None
        if self.clocks:
            self.clocks.wrap(self.postgres)
        self.proxies = Proxies(seed)
        self.injected: list[Injected] = []
        self.samples: list[Sample] = []
        self.marks: Counter[str] = Counter()
        self.aged: dict[str, float] = {}
        self.recoveries: list[float] = []  # seconds from a fault's end to the next acceptance
        self.tails: list[Tail] = []
        self.upgraded_at = 0.0
        self.held = 0  # emails that an operator found held back
        self.upgraded_from = str(before)
        self._before = before
        self._plain = itertools.count()
        self.retired: list[LocalPostgres] = []
        self.pooler: Pooler | None = None
        self.applications: list[Application] = []
        self.app_stop = threading.Event()
        self._done = threading.Event()
        self.calm = threading.Event()  # while so little waits that applications may go on
        self.calm.set()
        self._resting = False

    def __enter__(self) -> Self:
        if self.plan.upgrades and self._before is None:
            self._before = self.home / "previous"
            self.upgraded_from = previous(self.tree, self._before)
        self.postgres.start()
        migrate(self._before or self.tree, self.postgres.url)
        with psycopg.connect(self.postgres.url, autocommit=True) as conn:
            for statement in RULES.format(drip=DRIP, often=OFTEN).strip().split(";\n"):
                conn.execute(statement)
            conn.execute(Path(__file__).with_name("history.sql").read_text())
        if self.plan.pooler:
            self.pooler = Pooler(self.postgres.url)
        host, port = self.running.url.removeprefix("http://").split(":")
        self.fleet = Fleet(
            self.plan.daemons, self.tree, self.home, lease=self.plan.lease, proxies=self.proxies,
            postgres=self._socket(), sink=(host, int(port)),
            url=lambda gate: tcp_url(gate, "postgres", named=self.pooler is None), clocks=self.clocks,
            previous=self._before, settings=self._settings(),
        )  # fmt: skip
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.app_stop.set()
        self._done.set()
        for app in self.applications:
            if app.thread.ident:
                app.thread.join(5)
        self._watcher.join(5)
        self.fleet.close()
        self.proxies.close()
        if self.pooler is not None:
            self.pooler.close()
        for server in (self.postgres, *self.retired):
            server.close()
        if self.disks is not None:
            self.disks.close()
        if not os.environ.get("FAULTS_KEEP"):
            shutil.rmtree(self.home, ignore_errors=True)

    def _settings(self) -> dict[str, str]:
        return {CRASH_LIMIT: str(self.plan.crash_limit)} | (HOLDS if self.plan.holds else {})

    def _socket(self) -> str:
        """What daemons' proxies lead to: the server's socket, or that of a pooler before it."""
        if self.pooler is not None:
            return f"{self.pooler.home}/.s.PGSQL.6432"
        return f"{self.postgres._home}/.s.PGSQL.{self.postgres._port}"

    def retarget(self) -> None:
        """Let the database's address lead to the server that is the primary now."""
        for gate in self.proxies.gates:
            if gate.side == "pg":
                gate.target = self._socket()

    def start_applications(self, rate: float) -> None:
        share = self.plan.emails // 4
        for number in range(4):
            app = Application(
                number,
                lambda: self.postgres.url,
                seed=self.seed,
                emails=share,
                rate=rate / 4,
                stop=self.app_stop,
                calm=self.calm,
                relaxed=self.plan.relaxed,
            )
            self.applications.append(app)
            app.thread.start()

    def note(
        self,
        kind: str,
        what: str,
        began: float,
        *,
        gate: int | None = None,
        behind: frozenset[str] | None = None,
    ) -> None:
        """The fault log: one that ends now."""
        which = None if gate is None else str(gate)
        self.injected.append(Injected(began, time.time(), kind, what, which, behind))
        self.marks[f"{kind} {what}".strip()] += 1

    def connect(self, who: str = "faults") -> psycopg.Connection:
        """A superuser's connection, straight to the server."""
        return psycopg.connect(self.postgres.url, autocommit=True, application_name=who, connect_timeout=5)

    def wait_running(self, slot: Slot, start_again: Callable[[], None]) -> None:
        """Until the slot's daemon is at work: before that it obeys no signal, and holds nothing."""

        def runs() -> bool:
            start_again()
            return conn.execute(RUNS, (slot.pid, slot.started_at - 5)).fetchone()[0]

        try:
            with self.connect() as conn:
                # A first beat that fails is repeated after 20 s.
                until(runs, within=45, what="the daemon to run")
        except AssertionError as error:
            raise AssertionError(f"{error}: daemon {slot.number}; {self.stuck()}") from None

    def insert_now(self, number: int, kind: str = "welcome") -> set[str]:
        """Insert some emails that are due at once, in one transaction; their markers. They belong to the first
        application's record.
        """
        markers = [f"plain{next(self._plain)}@example.org" for _ in range(number)]
        with self.connect("app plain") as conn, conn.transaction():
            for marker in markers:
                conn.execute(PLAIN, (kind, marker))
        made = [Insert(marker, "acked", time.time(), relaxed=True) for marker in markers]
        self.applications[0].record.inserts.extend(made)
        return set(markers)

    def settled(self, markers: set[str]) -> bool:
        """Whether all of these were sent, as the database knows."""
        with self.connect() as conn:
            return conn.execute(SETTLED, (list(markers),)).fetchone()[0] == len(markers)

    def asked_for(self) -> set[str]:
        """Every address that was in a request."""
        return {address for entry in list(self.running.provider.entries) for address in entry.to}

    def busy(self, types: list[str]) -> bool:
        """Whether anything of these types waits or is in hand."""
        with self.connect() as conn:
            return conn.execute(BUSY, {"types": types}).fetchone()[0]

    def rest(self, *, resting: bool) -> None:
        """Let the applications rest, or go on."""
        self._resting = resting
        (self.calm.clear if resting else self.calm.set)()

    def drain(self, within: float) -> float:
        """Seconds until nothing waits that no limit holds. Raises where that takes longer, or the rest its windows."""
        began = time.monotonic()
        try:
            until(lambda: not self.busy(FREE), within=within, what="the queue to drain after healing")
            took = time.monotonic() - began
            with self.connect() as conn:
                held = conn.execute("select count(*) from outboxd.ready").fetchone()[0]
            windows = sum((held / limit.most + 2) * (limit.per + 1) for limit in LIMITS) + within
            types = [*FREE, *(limit.type for limit in LIMITS)]
            until(lambda: not self.busy(types), within=windows, what="what a limit held to drain")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.stuck()}") from None
        return took

    def stuck(self) -> str:
        """What keeps the queue from draining, in figures."""
        with self.connect() as conn:
            seen = [f"{name}: {conn.execute(query).fetchall()[:5]}" for name, query in STUCK.items()]
        for slot in self.fleet.slots:
            lines = slot.log.read_text("utf-8", "replace").splitlines()[-400:]
            told = [line[:300] for line in lines if '"level": "info"' not in line][-6:]
            seen.append(f"daemon {slot.number} said last: {told}")
        return "; ".join(seen)

    def _watch(self) -> None:
        """Look at the daemons' sessions twice a second, and play the operator who resumes what is paused."""
        conn: psycopg.Connection | None = None
        while not self._done.wait(0.5):
            try:
                if conn is None or conn.closed:
                    conn = self.connect("faults watch")
                number, oldest, note = conn.execute(SESSIONS).fetchone()
                self.samples.append(Sample(time.time(), number, oldest, note))
                conn.execute(RESUME)
                (waiting,) = conn.execute("select count(*) from outboxd.ready").fetchone()
                (self.calm.clear if self._resting or waiting > BACKLOG else self.calm.set)()
            except psycopg.Error:
                conn = None
        if conn is not None:
            conn.close()
