"""From claimed emails to parcels: what may travel together is bound into batches, stored before the first ask.

Emails are rendered one by one first, so that one which its serialiser cannot take ends alone. Storing is fenced by
the lease: what could not be stored belongs to somebody else by now, and is dropped here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from outboxd.core.batch import MOST_BYTES, Batch, Parcel, packed, quarters
from outboxd.core.email import Claimed, Frozen
from outboxd.core.outcome import Rejected
from outboxd.db import batch
from outboxd.db.session import Connection
from outboxd.delivery.sender import rendered, unsendable


@dataclass(frozen=True, slots=True)
class Packed:
    """Parcels that may be asked, and emails that cannot be rendered."""

    ready: list[Parcel]
    unsendable: list[tuple[Parcel, Rejected]]


def pack(conn: Connection, lease_id: UUID, groups: Sequence[Sequence[Claimed]]) -> Packed:
    """Bind groups of emails of one lease, in their order. One alone is rendered by its sender."""
    found = Packed([], [])
    parcels: list[Parcel] = []
    for group in groups:
        parcels += _bound(group, found) if len(group) > 1 else [Parcel((group[0],))]
    found.ready.extend(_stored(conn, lease_id, parcels))
    return found


def repack(conn: Connection, lease_id: UUID, parcels: Sequence[Parcel], home: Frozen) -> list[Parcel]:
    """Split those of the claimed batches that were rejected as a whole: quarters under new keys; one alone goes singly."""
    rejected = [parcel for parcel in parcels if parcel.batch and parcel.batch.rejected]
    if not rejected:
        return list(parcels)
    others = [parcel for parcel in parcels if not (parcel.batch and parcel.batch.rejected)]
    parts = [part for parcel in rejected for part in _quartered(parcel, home)]
    replaced = [parcel.batch.uid for parcel in rejected if parcel.batch]
    return others + _stored(conn, lease_id, parts, replaced)


def _quartered(parcel: Parcel, home: Frozen) -> Iterable[Parcel]:
    assert parcel.batch is not None
    for emails, items in quarters(parcel):
        if len(emails) == 1:
            yield Parcel(tuple(emails))
        else:
            yield Parcel(tuple(emails), _batch(items, home, parcel.batch))


def _bound(emails: Sequence[Claimed], found: Packed) -> Iterable[Parcel]:
    """One group as batches of bounded size."""
    members: list[Claimed] = []
    items: list[bytes] = []
    size = 0
    for email in emails:
        try:
            item = rendered(email)
        except Exception as error:  # noqa: BLE001 - whatever an email does to the serialiser stays that email's fault
            found.unsendable.append((Parcel((email,)), unsendable(error)))
            continue
        if members and size + len(item) > MOST_BYTES:
            yield _parcel(members, items)
            members, items, size = [], [], 0
        members.append(email)
        items.append(item)
        size += len(item)
    if members:
        yield _parcel(members, items)


def _parcel(members: list[Claimed], items: list[bytes]) -> Parcel:
    if len(members) == 1:
        return Parcel((members[0],))
    return Parcel(tuple(members), _batch(items, members[0].frozen, members[0]))


def _batch(items: Sequence[bytes], frozen: Frozen, before: Claimed | Batch) -> Batch:
    """A new request for these bodies, which continues the attempts that its members have behind them."""
    return Batch(
        uuid4(), packed(items), frozen, attempts=before.attempts, first_failed_at=before.first_failed_at,
        transient=before.transient,
    )  # fmt: skip


def _stored(
    conn: Connection, lease_id: UUID, parcels: Sequence[Parcel], replaced: Sequence[UUID] = ()
) -> list[Parcel]:
    if not replaced and not any(parcel.batch for parcel in parcels):
        return list(parcels)
    stored = batch.repack(conn, lease_id, parcels, replaced=replaced)
    return [parcel for parcel in parcels if parcel.batch is None or parcel.batch.uid in stored]
