"""The clone fence: a restored or copied database does not send until `outboxd adopt`.

The claimer asks `admits` in each round. The answer is looked up on every new connection, and again every thirty seconds,
every second behind a pooler. Where the database is not the one that was recorded, the
daemon observes: it runs, says so in one log line and in `/readyz`, and claims nothing. A promoted standby passes, with
a log line; what fell due just before may be held back (`after_failover`). A key that is rotated in a running daemon
passes too: the process vouches for the database.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import psycopg

from outboxd.core.batch import Rise
from outboxd.core.instance import Here, Known, differences, fingerprint
from outboxd.db import lease
from outboxd.db.query import query
from outboxd.db.session import Connection

log = logging.getLogger(__name__)

LOOK_OPEN: Final = 30.0  # seconds between two looks while mail may go
LOOK_POOLED: Final = 1.0  # and while it may go through a pooler, behind which the server can change unseen
LOOK_OBSERVING: Final = 1.0  # and while it may not
BEFORE_RISE: Final = timedelta(minutes=10)  # how much of what fell due before a failover may have been sent
HELD_UNTIL: Final = datetime(9999, 1, 1, tzinfo=UTC)  # when a batch that is held back falls due
HELD: Final = -1000  # the lane that nobody claims from
LOT: Final = 10_000  # rows moved in one statement
STANDBY: Final = "the server is a standby"


class Fence:
    """Whether this daemon may send from the database it is connected to. For one thread; `problem` for all.

    `rise` is the last failover that was seen in it.
    """

    def __init__(self, environment: str, api_key: Callable[[], str], *, hold: bool = False) -> None:
        self._environment = environment
        self._api_key = api_key
        self._hold = hold
        self._conn: Connection | None = None
        self._look_at = 0.0
        self._key_changed = threading.Event()
        self._sent_with: str | None = None
        self._highest = 0
        self.problem: str | None = None
        self.rise: Rise | None = None

    def admits(self, conn: Connection) -> bool:
        """Whether to claim through this connection. Looks at most once a second, or where the connection is new."""
        if conn is not self._conn or time.monotonic() >= self._look_at or self._key_changed.is_set():
            self._key_changed.clear()
            self._say(self._look(conn))
            self._conn = conn
            pooled = conn.prepare_threshold is None
            pause = LOOK_OBSERVING if self.problem else LOOK_POOLED if pooled else LOOK_OPEN
            self._look_at = time.monotonic() + pause
        return self.problem is None

    def key_changed(self) -> None:
        """Look at the next round: a restart before that would find a key that nobody vouched for. For any thread."""
        self._key_changed.set()

    def _say(self, reasons: Mapping[str, str]) -> None:
        problem = f"observing: {'; '.join(reasons.values())}" if reasons else None
        if problem and STANDBY not in reasons:
            problem += "; run `outboxd adopt`"
        if problem and problem != self.problem:
            log.error("nothing is sent from this database", extra={"reason": problem})
        elif self.problem and not problem:
            log.info("this database may send again")
        self.problem = problem

    def _look(self, conn: Connection) -> Mapping[str, str]:
        here = whereabouts(conn, self._environment, self._api_key())
        if here is None:
            conn.close()  # the next connection may find the primary
            return {STANDBY: STANDBY}
        known = recorded(conn) or _register(conn, here)
        reasons = dict(differences(known, here))
        if (here.timeline or 0) < self._highest:
            reasons["timeline"] = f"the timeline is {here.timeline}, and was {self._highest} (an old primary)"
        if set(reasons) == {"api_key"} and self._sent_with in known.api_keys:
            conn.execute(query("instance/rotate"), {"api_key": fingerprint(here.api_key, known.instance)})
            log.info("the API key was rotated")
            reasons = {}
        if not reasons:
            self._pass(conn, known, here)
        return reasons

    def _pass(self, conn: Connection, known: Known, here: Here) -> None:
        if known.timeline is not None and here.timeline is not None and here.timeline > known.timeline:
            self._rise(conn, here.timeline)
            known = recorded(conn) or known
        self.rise = known.rise
        conn.execute(query("instance/seen"))
        self._sent_with = fingerprint(here.api_key, known.instance)
        self._highest = max(self._highest, here.timeline or 0)

    def _rise(self, conn: Connection, timeline: int) -> None:
        """A standby was promoted. Of several daemons that see it, the first acts."""
        held = 0
        with conn.transaction():
            before, seen_at = conn.execute(query("instance/lock")).fetchone() or (timeline, None)
            if before >= timeline:
                return
            if self._hold:
                _end_leases(conn)
                held = hold(conn, due_from=seen_at - BEFORE_RISE)
            conn.execute(query("instance/rise"), {"timeline": timeline})
        log.warning(
            "failover: the timeline rose",
            extra={
                "was": before,
                "is": timeline,
                "held": held,
                "then": "run `outboxd adopt` for what is held" if held else "sending goes on",
            },
        )


def whereabouts(conn: Connection, environment: str, api_key: str) -> Here | None:
    """Where this connection leads; None to a standby."""
    standby, oid = conn.execute(query("instance/here")).fetchone() or (True, 0)
    if standby:
        return None
    identifier = _told(conn, query("instance/system_identifier"))
    timeline = _told(conn, query("instance/timeline"))
    return Here(
        environment,
        api_key,
        oid,
        str(identifier) if identifier else None,
        int(timeline) if timeline else None,
    )


def recorded(conn: Connection) -> Known | None:
    """What was recorded about this database; None where nothing was."""
    row = conn.execute(query("instance/known")).fetchone()
    if row is None:
        return None
    known = Known(*row)
    return replace(known, api_keys=tuple(known.api_keys))


def values(here: Here) -> dict[str, object]:
    """A new record of a database."""
    instance = uuid4()
    return {
        "instance": instance,
        "environment": here.environment,
        "system_identifier": here.system_identifier,
        "database_oid": here.database_oid,
        "timeline": here.timeline,
        "api_key": fingerprint(here.api_key, instance),
    }


def hold(conn: Connection, *, due_from: datetime | None = None, last_id: int | None = None) -> int:
    """Hold back what waits: what fell due since then, or all up to an id; and all batches. How many; bounded lots."""
    chosen = {"held": HELD, "most": LOT, "due_from": due_from, "last_id": last_id}
    conn.execute(query("instance/hold_batches"), {"until": HELD_UNTIL})
    held = 0
    while lot := conn.execute(query("instance/hold"), chosen).rowcount:
        held += lot
    return held


def _end_leases(conn: Connection) -> None:
    """Put back what was in hand: in seconds that the standby lost it may have gone another way, alone or in a batch."""
    conn.execute(query("instance/end_leases"))
    while lease.reclaim(conn, crash_limit=0):
        pass


def _register(conn: Connection, here: Here) -> Known:
    """The first daemon in a database makes it its own."""
    conn.execute(query("instance/register"), values(here))
    known = recorded(conn)
    assert known is not None
    return known


def _told(conn: Connection, statement: str) -> str | int | None:
    """What the server says, or None where it does not let us ask."""
    try:
        row = conn.execute(statement.encode()).fetchone()
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.FeatureNotSupported,
        psycopg.errors.UndefinedFunction,
    ):
        return None
    return row[0] if row else None
