"""The workers table: who is at work, for people. Nothing is decided by it; only leases count."""

import os
import socket
from uuid import UUID

from outboxd.db.query import query
from outboxd.db.session import Connection


def beat(conn: Connection, worker: UUID, *, version: str, threads: int, stopping: bool = False) -> None:
    """Say that this worker lives."""
    values = {
        "worker": worker,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": version,
        "threads": threads,
        "stopping": stopping,
    }
    conn.execute(query("worker/beat"), values)


def forget(conn: Connection, worker: UUID) -> None:
    """Remove a worker that ended."""
    conn.execute(query("worker/forget"), {"worker": worker})


def extend_partitions(conn: Connection) -> int:
    """Keep partitions ahead of the ids; how many were made."""
    row = conn.execute(query("schema/extend_partitions")).fetchone()
    return int(row[0]) if row else 0
