"""The clone fence: a restored or copied database does not send until `outboxd adopt`.

The claimer asks `admits` in each round. The answer is looked up on every new connection, and again every thirty seconds,
every second behind a pooler. Where the database is not the one that was recorded, the
daemon observes: it runs, says so in one log line and in `/readyz`, and claims nothing. A promoted standby passes, with
a log line; all that was due may be held back first (`after_failover`), however much that is. A key that is rotated in
a running daemon passes too: the process vouches for the database.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import psycopg

from outboxd.core.batch import Rise
from outboxd.core.instance import Here, Known, differences, fingerprint
from outboxd.db import clock, lease
from outboxd.db.query import query
from outboxd.db.session import Connection

log = logging.getLogger(__name__)

LOOK_OPEN: Final = 30.0  # seconds between two looks while mail may go
LOOK_POOLED: Final = 1.0  # and while it may go through a pooler, behind which the server can change unseen
LOOK_OBSERVING: Final = 1.0  # and while it may not
HELD_UNTIL: Final = datetime(9999, 1, 1, tzinfo=UTC)  # when a batch that is held back falls due
HELD: Final = -1000  # the lane that nobody claims from
BLOCKS: Final = 64  # of the table in which emails wait, walked over in one statement: about as many rows
HOLD_ROUND: Final = 5.0  # seconds of holding back between two looks
STANDBY: Final = "the server is a standby"
HOLDING: Final = "a standby was promoted, and what was due is being held back"


@dataclass(slots=True)
class Walk:
    """Over all that waits, to hold back emails up to an id, due at any time or by `due_by`; `held` are those so far.

    `timeline` is that of the failover for which it is.
    """

    last_id: int
    due_by: datetime | None = None
    timeline: int | None = None
    held: int = 0
    _block: int = 0
    _found: bool = False  # since the first block

    def step(self, conn: Connection) -> bool:
        """Hold back one lot. False once a whole walk has found nothing: what was moved meanwhile is seen by the next."""
        chosen = {
            "held": HELD,
            "from": self._block,
            "to": self._block + BLOCKS,
            "last_id": self.last_id,
            "due_by": self.due_by,
        }
        lot, at_end = conn.execute(query("instance/hold"), chosen).fetchone() or (0, True)
        self.held += lot
        self._found = self._found or lot > 0
        self._block += BLOCKS
        if not at_end:
            return True
        again, self._block, self._found = self._found, 0, False
        return again


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
        self._walk: Walk | None = None  # while it holds back what was due at a failover
        self.problem: str | None = None
        self.rise: Rise | None = None

    def admits(self, conn: Connection) -> bool:
        """Whether to claim through this connection. Looks at most once a second, or where the connection is new."""
        if conn is not self._conn:
            self._walk = None  # it may lead to another server
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
        if problem and not reasons.keys() & {STANDBY, HOLDING}:
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
        if not reasons and not self._pass(conn, known, here):
            reasons = {HOLDING: HOLDING}
        return reasons

    def _pass(self, conn: Connection, known: Known, here: Here) -> bool:
        """False: what was due at a failover is not yet held back."""
        if known.timeline is not None and here.timeline is not None and here.timeline > known.timeline:
            if not self._rise(conn, known.timeline, here.timeline):
                return False
            known = recorded(conn) or known
        self.rise = known.rise
        conn.execute(query("instance/seen"))
        self._sent_with = fingerprint(here.api_key, known.instance)
        self._highest = max(self._highest, here.timeline or 0)
        return True

    def _rise(self, conn: Connection, was: int, timeline: int) -> bool:
        """A standby was promoted. Of several daemons that see it, the first that is done notes it; False: not done yet."""
        if self._walk is not None and self._walk.timeline != timeline:
            self._walk = None  # it was for the failover before
        ends = time.monotonic() + HOLD_ROUND
        noted = None
        while noted is None:
            noted = self._note_or_hold(conn, timeline)
            if noted is None and time.monotonic() >= ends:
                return False
        held, self._walk = self._walk.held if self._walk else 0, None
        if noted or held:
            waits = held > 0 or (self._hold and _is_held(conn))  # also by who did not come to note it
            then = "run `outboxd adopt` for what is held" if waits else "sending goes on"
            log.warning(
                "failover: the timeline rose", extra={"was": was, "is": timeline, "held": held, "then": then}
            )
        return True

    def _note_or_hold(self, conn: Connection, timeline: int) -> bool | None:
        """Whether this daemon noted the rise, or another one had; None: mail was held back, and there may be more.

        Each lot is a transaction of its own, so that none gets too long however much waits. Nobody claims before the note.
        """
        with conn.transaction():
            (before,) = conn.execute(query("instance/lock")).fetchone() or (timeline,)
            if before >= timeline:
                return False
            begun = _begin_walk(conn, timeline) if self._hold and self._walk is None else None
            more = begun is not None or (self._walk is not None and self._walk.step(conn))
            if not more:
                note_rise(conn, timeline, at=self._walk.due_by if self._walk else None)
        self._walk = begun or self._walk
        return None if more else True


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


def hold(conn: Connection, *, last_id: int) -> int:
    """Hold back all that waits up to an id, and all batches. How many emails; bounded lots."""
    _hold_batches(conn)
    walk = Walk(last_id)
    while walk.step(conn):
        pass
    return walk.held


def newest(conn: Connection) -> int:
    """The id of the newest email that there is; 0 without any."""
    row = conn.execute(query("instance/last_id")).fetchone()
    return row[0] if row else 0


def note_rise(conn: Connection, timeline: int, *, at: datetime | None = None) -> None:
    """Note a failover, now or as of when what was due was first held back. Nobody holds anything back for it after that."""
    conn.execute(query("instance/rise"), {"timeline": timeline, "at": at})


def _is_held(conn: Connection) -> bool:
    row = conn.execute(query("instance/is_held"), {"held": HELD, "until": HELD_UNTIL}).fetchone()
    return row is not None


def _begin_walk(conn: Connection, timeline: int) -> Walk:
    """Over all that was due at a failover, however long: any of it may have gone, in seconds that the standby lost.

    What was in hand comes back first: it may have gone another way, alone or in a batch.
    """
    conn.execute(query("instance/end_leases"))
    while lease.reclaim(conn, crash_limit=0):
        pass
    _hold_batches(conn)
    return Walk(newest(conn), clock.read(conn), timeline)


def _hold_batches(conn: Connection) -> None:
    conn.execute(query("instance/hold_batches"), {"until": HELD_UNTIL})


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
