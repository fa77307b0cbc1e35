"""Batches: stored before their first ask, claimed whole, taken apart only under the lease that has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow, TupleRow, dict_row

from outboxd.core.batch import Batch, Parcel
from outboxd.core.email import Claimed, Frozen
from outboxd.db import pause
from outboxd.db.column import column
from outboxd.db.lease import as_stored, frozen_from
from outboxd.db.pause import Probe
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings

NOBODY: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Batches that wait; `due_in` is in seconds, negative where the first is overdue; `closed` by a pause."""

    queue: int
    lane: int
    crash_streak: int
    due_in: float
    closed: bool


def waiting(conn: Connection, account: str, *, now: datetime | None = None) -> list[Waiting]:
    """What batches wait, by queue, lane and crash streak."""
    with conn.pipeline(), conn.transaction():
        path_settings(conn)
        cursor = ask_waiting(conn, account, now=now)
    return [Waiting(*row) for row in cursor.fetchall()]


def ask_waiting(conn: Connection, account: str, *, now: datetime | None = None) -> Cursor[TupleRow]:
    """The same as a read in a pipeline of the caller's; each row is a `Waiting`."""
    return conn.execute(query("batch/waiting"), {"account": account, "now": now}, prepare=True)


def claim(
    conn: Connection,
    *,
    lease_id: UUID,
    worker: UUID,
    home: Frozen,
    ttl: timedelta,
    limit: int,
    streaks: tuple[int, int] = (0, 0),
    probe: Probe | None = None,
    only_lane: int | None = None,
    now: datetime | None = None,
) -> tuple[list[Parcel], pause.Paused]:
    """Lease up to `limit` due batches whole, and commit; and what is paused. Empty: none was due and free."""
    values = {
        "lease_id": lease_id,
        "worker": worker,
        "frozen": as_stored(home),
        "ttl": ttl,
        "limit": limit,
        "least": streaks[0],
        "most": streaks[1],
        "probed_kind": probe and probe.kind,
        "probed_key": probe and probe.key,
        "only_lane": only_lane,
        "now": now,
    }
    with conn.pipeline(), conn.transaction():
        path_settings(conn)
        cursor = conn.cursor(row_factory=dict_row, binary=True)
        cursor.execute(query("batch/claim").encode(), values, prepare=True)
        paused = pause.active(conn, now=now)
    rows = groupby(cursor.fetchall(), lambda row: row["batch_uid"])
    return [_parcel(list(members), lease_id) for _, members in rows], paused.read()


def repack(
    conn: Connection, lease_id: UUID, parcels: Sequence[Parcel], *, replaced: Sequence[UUID] = ()
) -> set[UUID]:
    """Take batches of this lease apart and store others of its emails, in one commit; which were stored.

    What was not stored belongs to a lost lease and must not be asked.
    """
    batches = [parcel.batch for parcel in parcels if parcel.batch]
    members = [
        (email.id, parcel.batch.uid, place)
        for parcel in parcels
        if parcel.batch
        for place, email in enumerate(parcel.emails)
    ]
    values = {
        "lease_id": lease_id,
        "batch_uids": column(one.uid for one in batches),
        "bodies": [one.body for one in batches],
        "queues": column(parcel.first.queue_id for parcel in parcels if parcel.batch),
        "lanes": column(max(parcel.first.lane, 0) for parcel in parcels if parcel.batch),
        "attempts": column(one.attempts for one in batches),
        "first_failed_at": column(one.first_failed_at for one in batches),
        "transient": column(one.transient for one in batches),
        "ids": column(member[0] for member in members),
        "members_of": column(member[1] for member in members),
        "places": column(member[2] for member in members),
        "frozen": as_stored(batches[0].frozen) if batches else "{}",
    }
    with conn.pipeline(), conn.transaction():
        path_settings(conn)
        conn.execute(query("batch/hold"), {"lease_id": lease_id}, prepare=True)
        if replaced:
            conn.execute(query("batch/dissolve"), {"lease_id": lease_id, "replaced": list(replaced)})
        cursor = conn.execute(query("batch/store"), values, prepare=True, binary=True)
    return {row[0] for row in cursor.fetchall()}


def _parcel(rows: list[DictRow], lease_id: UUID) -> Parcel:
    head = rows[0]
    batch = Batch(
        uid=head["batch_uid"],
        body=bytes(head["body"]),
        frozen=frozen_from(head["frozen"]),
        attempts=head["attempts"],
        crash_streak=head["crash_streak"],
        first_asked_at=head["first_asked_at"],
        first_failed_at=head["first_failed_at"],
        last_ambiguous_at=head["last_ambiguous_at"],
        ambiguous=head["ambiguous"],
        transient=head["transient"],
        rejected=head["rejected"],
    )
    return Parcel(tuple(_member(row, batch, lease_id) for row in rows), batch)


def _member(row: DictRow, batch: Batch, lease_id: UUID) -> Claimed:
    """A member carries the totals of its batch, with which it goes on alone; key and recipients are its own."""
    return Claimed(
        id=row["id"],
        uid=row["uid"] or NOBODY,
        lease_id=lease_id,
        queue_id=row["queue"],
        queue=row["queue_name"] or "",
        type=row["type"] or "",
        lane=row["lane"],
        priority=row["priority"],
        scheduled_at=row["scheduled_at"] or row["claimed_at"],
        claimed_at=row["claimed_at"],
        payload=row["payload"],
        expires_at=row["expires_at"],
        max_attempts=row["max_attempts"],
        trace=row["trace"],
        sender=row["sender"],
        alone=False,
        attempts=batch.attempts,
        crash_streak=0,
        first_asked_at=row["alone_first_asked_at"],
        first_failed_at=batch.first_failed_at,
        ambiguous=False,
        transient=batch.transient,
        cancelled=bool(row["cancelled"]),
        accepted_as=row["accepted_as"],
        ended=False,
        generation=row["generation"],
        frozen=frozen_from(row["member_frozen"]),
        tenant=row["tenant"] or "",
        campaign=row["campaign"],
        recipients=tuple(row["recipients"] or ()),
        suppressed=tuple((found[0], found[1], found[2]) for found in row["suppressed"] or ()),
    )
