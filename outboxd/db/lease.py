"""Leases: claim, settle, reclaim. The only statements that move an email into and out of `sending`.

Guarantees: a claim is committed before it returns; a settle or reclaim changes an email only while the lease still
has it as a member; both may be repeated after a lost answer. Where a claim's COMMIT got no answer, `hand_back` finds
out what became of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import TupleRow, class_row

from outboxd.core.batch import Batch
from outboxd.core.email import Claimed, Frozen
from outboxd.core.retry import Step
from outboxd.db.column import column
from outboxd.db.pause import Probe
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings, transaction_of_path

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NOBODY: Final = UUID(int=0)
ANYWHERE: Final = (0, 2**63 - 1)  # least and greatest id


@dataclass(frozen=True, slots=True)
class Slot:
    """A (queue, lane, priority) that may have due rows, and the watermark: where the last claim in it ended.

    `most` bounds what one claim takes from it.
    """

    queue: int
    lane: int
    priority: int
    after_at: datetime = EPOCH
    after_id: int = 0
    most: int | None = None

    def watermark(self) -> tuple[datetime, int]:
        """Where a claim goes on, as rows are ordered."""
        return self.after_at, self.after_id


@dataclass(frozen=True, slots=True)
class Waiting:
    """A slot that has rows; `due_in` is in seconds, negative where its first row is overdue; `closed` by a pause.

    `oldest_in` is the same without regard to the lane's own closing; `weight` is its queue's; `most` bounds a claim;
    `first_at` and `first_id` are where its first row stands.
    """

    queue: int
    lane: int
    priority: int
    due_in: float
    closed: bool
    oldest_in: float = 0.0
    weight: int = 1
    most: int | None = None
    first_at: datetime = EPOCH
    first_id: int = 1

    def slot(self) -> Slot:
        """The slot, from its head."""
        return Slot(self.queue, self.lane, self.priority)

    def from_first(self) -> Slot:
        """The slot, from where its first row stands: what is dead before it was walked over by who looked."""
        return Slot(self.queue, self.lane, self.priority, self.first_at, self.first_id - 1)


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim leased, and the (kind, key) of every pause that was active then."""

    emails: list[Claimed]
    paused: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """An email whose lease ran out. `taken` is `again`, `unknown` (quarantined) or `sent` (evidence was there)."""

    id: int
    uid: UUID | None
    streak: int
    taken: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """One outcome, decided: what becomes of one claimed email, and how long ago it was asked (None: never).

    `lane` is where it waits if it goes back. Of a batch's members exactly one `leads`: it carries the batch's totals.
    `undecided`: this very ask may have been accepted.
    """

    email: Claimed
    step: Step
    asked_ago: float | None
    lane: int = 0
    batch: Batch | None = None
    leads: bool = False
    undecided: bool = False


def slots(
    conn: Connection, account: str, *, probe: Probe | None = None, now: datetime | None = None
) -> list[Waiting]:
    """Every slot that has rows, in serving order. A plain read: takes no lock and skips no locked row.

    What `probe` goes in spite of closes none of them.
    """
    with conn.pipeline(), conn.transaction():
        path_settings(conn)
        cursor = ask_slots(conn, account, probe=probe, now=now)
    return [Waiting(*row) for row in cursor.fetchall()]


def ask_slots(
    conn: Connection, account: str, *, probe: Probe | None = None, now: datetime | None = None
) -> Cursor[TupleRow]:
    """The same as a read in a pipeline of the caller's; each row is a `Waiting`."""
    values = {
        "now": now,
        "account": account,
        "probed_kind": probe and probe.kind,
        "probed_key": probe and probe.key,
    }
    return conn.execute(query("ready/slots"), values, prepare=True)


def ask_usual(conn: Connection) -> Cursor[TupleRow]:
    """The queue and priority of each queue's own slot, the most urgent first; whether it has rows or not."""
    return conn.execute(query("queue/usual"), prepare=True)


def claim(
    conn: Connection,
    wanted: Sequence[Slot],
    *,
    lease_id: UUID,
    worker: UUID,
    frozen: Frozen,
    ttl: timedelta,
    limit: int,
    near: tuple[int, int] = ANYWHERE,
    probe: Probe | None = None,
    now: datetime | None = None,
) -> Claim:
    """Lease up to `limit` due emails from the slots, in their order, and commit. Empty: nothing due was free.

    They are read in the same round trip where their ids are between the two of `near`, and in another where they are
    not: partitions outside are not opened. While the account is paused nothing is leased, but for a probe.
    """
    values = {
        "queues": column(slot.queue for slot in wanted),
        "lanes": column(slot.lane for slot in wanted),
        "priorities": column(slot.priority for slot in wanted),
        "after_at": column(slot.after_at for slot in wanted),
        "after_id": column(slot.after_id for slot in wanted),
        "mosts": column(slot.most for slot in wanted),
        "limit": limit,
        "lease_id": lease_id,
        "worker": worker,
        "frozen": as_stored(frozen),
        "ttl": ttl,
        "probed_kind": probe and probe.kind,
        "now": now,
    }
    with conn.pipeline(), transaction_of_path(conn):
        claimed = conn.execute(query("lease/claim"), values, prepare=True, binary=True)
        read = _read(conn, lease_id, near)
    taken = {row[0]: row for row in claimed.fetchall()}
    if not taken:
        return Claim([], frozenset())
    paused = next(iter(taken.values()))[-1]
    if not near[0] <= min(taken) <= max(taken) <= near[1]:
        with conn.pipeline(), transaction_of_path(conn):
            read = _read(conn, lease_id, (min(taken), max(taken)))
    emails = [_claimed(taken[row[0]], row, lease_id, frozen) for row in read.fetchall()]
    return Claim(
        sorted(emails, key=lambda email: (email.priority, email.scheduled_at, email.id)),
        frozenset((kind, key) for kind, key in json.loads(paused or "[]")),
    )


def _read(conn: Connection, lease_id: UUID, bounds: tuple[int, int]) -> Cursor[TupleRow]:
    values = {"lease_id": lease_id, "first": bounds[0], "last": bounds[1]}
    return conn.execute(query("lease/read"), values, prepare=True, binary=True)


def _claimed(taken: TupleRow, row: TupleRow, lease_id: UUID, home: Frozen) -> Claimed:
    (id_, queue, lane, priority, scheduled_at, claimed_at, _) = taken
    (_, uid, type_, queue_name, payload, expires_at, max_attempts, trace, sender, alone,
     attempts, crash_streak, first_asked_at, first_failed_at, ambiguous, transient, generation, frozen,
     cancelled, accepted_as, recipients, tenant, campaign, suppressed, ended) = row  # fmt: skip
    return Claimed(
        id=id_,
        uid=uid or NOBODY,
        lease_id=lease_id,
        queue_id=queue,
        queue=queue_name or "",
        type=type_ or "",
        lane=lane,
        priority=priority,
        scheduled_at=scheduled_at,
        claimed_at=claimed_at,
        payload=payload,
        expires_at=expires_at,
        max_attempts=max_attempts,
        trace=trace,
        sender=sender,
        alone=bool(alone),
        attempts=attempts or 0,
        crash_streak=crash_streak or 0,
        first_asked_at=first_asked_at,
        first_failed_at=first_failed_at,
        ambiguous=bool(ambiguous),
        transient=transient is not False,
        cancelled=bool(cancelled),
        accepted_as=accepted_as,
        ended=ended,
        generation=generation or 1,
        frozen=frozen_from(frozen) if frozen else home,
        tenant=tenant or "",
        campaign=campaign,
        recipients=tuple(recipients or ()),
        suppressed=tuple((found[0], found[1], found[2]) for found in suppressed or ()),
    )


@lru_cache(maxsize=16)
def as_stored(frozen: Frozen) -> str:
    """What is frozen with a request, as JSON: nearly always the daemon's own."""
    return json.dumps(asdict(frozen))


def frozen_from(stored: Mapping[str, Any]) -> Frozen:
    """What was frozen with a request, from its JSON."""
    return Frozen(**{**stored, "removed": tuple(stored.get("removed", ()))})


def settle_if_leased(
    conn: Connection, settlements: Sequence[Settlement], *, now: datetime | None = None
) -> dict[tuple[UUID, int], str]:
    """End these attempts in one transaction; returns the step taken by (lease id, email id).

    An outcome that is missing in the answer belongs to a lost lease and changed nothing.
    """
    values = {
        "lease_ids": column(s.email.lease_id for s in settlements),
        "ids": column(s.email.id for s in settlements),
        "steps": [s.step.name for s in settlements],
        "provider_ids": [s.step.provider_id for s in settlements],
        "due_in": column(s.step.due_in.total_seconds() for s in settlements),
        "attempts": column(s.step.attempts for s in settlements),
        "ambiguous": column(s.step.ambiguous for s in settlements),
        "transient": column(s.step.transient for s in settlements),
        "asked_ago": column(s.asked_ago for s in settlements),
        "queues": column(s.email.queue_id for s in settlements),
        "lanes": column(s.lane for s in settlements),
        "priorities": column(s.email.priority for s in settlements),
        "failures": [s.step.failure_json() for s in settlements],
        "batches": column(s.batch.uid if s.batch else None for s in settlements),
        "leads": column(s.leads for s in settlements),
        "rejected": column(s.step.rejected for s in settlements),
        "first_asked_at": column(s.batch.first_asked_at if s.batch else None for s in settlements),
        "first_failed_at": column(
            s.batch.first_failed_at if s.batch else s.email.first_failed_at for s in settlements
        ),
        "undecided": column(s.undecided for s in settlements),
        "places": column(s.email.scheduled_at if s.step.keeps_place else None for s in settlements),
        "first": min((s.email.id for s in settlements), default=0),
        "last": max((s.email.id for s in settlements), default=0),
        "leases": column({s.email.lease_id for s in settlements}),
        "now": now,
    }
    with conn.pipeline(), conn.transaction():
        path_settings(conn)
        conn.execute(query("lease/lock"), {"lease_ids": values["leases"]}, prepare=True)
        cursor = conn.execute(query("lease/settle"), values, prepare=True)
    return {(lease_id, id_): taken for lease_id, id_, taken in cursor.fetchall()}


def reclaim(
    conn: Connection, *, crash_limit: int, limit: int = 20, now: datetime | None = None
) -> list[Reclaimed]:
    """Put back what is left in leases that ran out. Each email counts as asked at its claim."""
    with conn.transaction():
        path_settings(conn)
        expired = conn.execute(query("lease/expired"), {"now": now, "limit": limit}).fetchall()
        if not expired:
            return []
        values = {"lease_ids": [row[0] for row in expired], "crash_limit": crash_limit, "now": now}
        with conn.cursor(row_factory=class_row(Reclaimed)) as cursor:
            return cursor.execute(query("lease/reclaim"), values).fetchall()


def hand_back(conn: Connection, lease_id: UUID) -> int:
    """Return to ready what a claim whose COMMIT got no answer had leased; how many emails that were.

    Writing the same lease id waits for the pending transaction, so that "never happened" is final.
    """
    with conn.transaction():
        path_settings(conn)
        conn.execute(query("lease/reserve"), {"lease_id": lease_id, "worker": NOBODY})
        return conn.execute(query("lease/hand_back"), {"lease_id": lease_id}).rowcount


def any_expired(conn: Connection, *, now: datetime | None = None) -> tuple[bool, int]:
    """Whether there is anything for `reclaim` or for a sweep, and the version of policy.

    The cheap question that is asked each second.
    """
    anything, policy_version = conn.execute(query("lease/any_expired"), {"now": now}).fetchone() or (False, 0)
    return bool(anything), int(policy_version)
