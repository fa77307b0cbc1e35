"""Suppressions: asked about on the path, kept by people.

`among` is the gate: one statement for all emails in hand. The rest serves commands. Nothing here logs an address.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import DictRow

from outboxd.core.suppression import BadLine, Counts, Entry, Expired, Suppressed
from outboxd.db.command import connected, explained, rows
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings
from outboxd.errors import DatabaseError

MOST: Final = 1_000  # emails in one question
CHUNK: Final = 10_000  # entries in one transaction of an import
UNKNOWN_SCOPES: Final = 20  # of an import that are remembered


def among(
    conn: Connection, ids: Sequence[int], *, now: datetime | None = None
) -> dict[int, tuple[Suppressed, ...]]:
    """Of up to 1,000 emails, those with suppressed recipients, and which; the others are not in the answer.

    Wants the settings of the path (`path_settings`) in its transaction. The database's clock unless `now` is given.
    """
    if len(ids) > MOST:
        raise ValueError(f"at most {MOST} emails in one question, not {len(ids)}")
    found: dict[int, list[Suppressed]] = {}
    values = {"ids": list(ids), "now": now}
    for id_, address, reason, scope in conn.execute(query("suppression/among"), values, prepare=True):
        found.setdefault(id_, []).append(Suppressed(address, reason, scope))
    return {id_: tuple(suppressed) for id_, suppressed in found.items()}


def among_now(conn: Connection, ids: Sequence[int]) -> dict[int, set[str]]:
    """Of the emails in hand, those with suppressed recipients, and which addresses these are."""
    found: dict[int, set[str]] = {}
    with conn.transaction():
        path_settings(conn)
        for start in range(0, len(ids), MOST):
            for id_, suppressed in among(conn, ids[start : start + MOST]).items():
                found[id_] = {one.address for one in suppressed}
    return found


def take_out(conn: Connection, lease_id: UUID, removed: Mapping[int, Sequence[str]]) -> dict[int, int]:
    """Store whom these emails of a lease go without; the generation of each that the lease still has."""
    values = {
        "lease_id": lease_id,
        "ids": list(removed),
        "removed": [json.dumps(list(addresses)) for addresses in removed.values()],
    }
    with conn.transaction():
        path_settings(conn)
        rows_ = conn.execute(query("suppression/take_out"), values).fetchall()
    return {row[0]: row[1] for row in rows_}


def listing(url: str, *, limit: int, expired: bool, **filters: str | None) -> list[DictRow]:
    """The newest that fit `address`, `scope`, `reason`, `source`."""
    return rows(url, query("suppression/list"), {"limit": limit, "expired": expired, **filters})


def add(url: str, **values: str | datetime | None) -> DictRow:
    """Suppress `address` for `reason`, `scope`, `source`, `cause`, `expires_at`: `changed`, and whether `known_scope`."""
    return rows(url, query("suppression/add"), values)[0]


def remove(url: str, address: str, *, scope: str | None, erased: bool) -> int:
    """Take suppressions of the address away, of one scope or (None) of all; how many."""
    values = {"address": address, "scope": scope, "erased": erased}
    return int(rows(url, query("suppression/remove"), values)[0]["removed"])


def is_unknown_scope(url: str, scope: str) -> bool:
    """Whether a suppression of this scope stops nothing: no queue and no type with a policy has its name."""
    with connected(url) as conn:
        try:
            return bool(_unknown_scopes(conn, {scope}))
        except psycopg.Error as error:
            raise explained(error) from None


def take_in(
    url: str,
    records: Iterable[tuple[int, Entry | Expired | BadLine]],
    *,
    reject: Callable[[int, str], None],
    progress: Callable[[Counts], None],
) -> Counts:
    """Import numbered records, 10,000 in a transaction; what is there already stays, so that it can be run again.

    What has expired is left out. Calls `reject(line, reason)` for each bad line and `progress` after each commit. Raises
    `DatabaseError`, saying how many records were done.
    """
    counts = Counts()
    with connected(url) as conn:
        for chunk in _chunks(records):
            good = [(line, record) for line, record in chunk if isinstance(record, Entry)]
            try:
                added, changed, refused = _write(conn, [record for _, record in good])
                unknown = counts.unknown_scopes | _unknown_scopes(conn, {record.scope for _, record in good})
            except psycopg.Error as error:
                raise DatabaseError(f"{explained(error)}; {counts.done} records were done before") from None
            bad = [(line, record.reason) for line, record in chunk if isinstance(record, BadLine)]
            bad += [(good[position - 1][0], "address: is not an address") for position in refused]
            for line, reason in sorted(bad):
                reject(line, reason)
            expired = sum(isinstance(record, Expired) for _, record in chunk)
            kept = len(chunk) - added - changed - expired - len(bad)
            counts = Counts(
                counts.added + added,
                counts.changed + changed,
                counts.kept + kept,
                counts.expired + expired,
                counts.bad + len(bad),
                frozenset(sorted(unknown)[:UNKNOWN_SCOPES]),
            )
            progress(counts)
    return counts


def give_out(url: str, write: Callable[[bytes], object], *, scope: str | None, reason: str | None) -> int:
    """Stream what holds as CSV; how many were left out because their address was erased. Raises `DatabaseError`."""
    filters = {"scope": scope, "reason": reason}
    with connected(url) as conn, conn.cursor() as cursor:
        try:
            rows_of = query("suppression/export")
            with cursor.copy(
                f"copy ({rows_of}) to stdout with (format csv, header)".encode(), filters
            ) as copy:
                for block in copy:
                    write(bytes(block))
            row = cursor.execute(query("suppression/erased"), filters).fetchone()
        except psycopg.Error as error:
            raise explained(error) from None
    return int(row[0]) if row else 0


def _write(conn: psycopg.Connection[Any], entries: Sequence[Entry]) -> tuple[int, int, list[int]]:
    if not entries:
        return 0, 0, []
    values = {
        "addresses": [entry.address for entry in entries],
        "reasons": [entry.reason for entry in entries],
        "scopes": [entry.scope for entry in entries],
        "sources": [entry.source for entry in entries],
        "causes": [entry.cause for entry in entries],
        "expiries": [entry.expires_at for entry in entries],
        "metadata": [entry.metadata for entry in entries],
    }
    row = conn.execute(query("suppression/import"), values).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def _unknown_scopes(conn: psycopg.Connection[Any], scopes: set[str]) -> set[str]:
    if scopes <= {"all"}:
        return set()
    return {scope for (scope,) in conn.execute(query("suppression/unknown_scopes"), {"scopes": list(scopes)})}


def _chunks(
    records: Iterable[tuple[int, Entry | Expired | BadLine]],
) -> Iterator[list[tuple[int, Entry | Expired | BadLine]]]:
    source = iter(records)
    while chunk := list(islice(source, CHUNK)):
        yield chunk
