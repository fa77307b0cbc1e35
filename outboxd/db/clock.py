"""Following the server's clock where it steps ahead: what limits counted moves with it, once for all daemons."""

from datetime import datetime, timedelta
from typing import Final, cast

from outboxd.core.clock import Step
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings, patient

SLACK: Final = timedelta(minutes=1)  # more than any window is longer by
PATIENCE: Final = (
    340.0  # seconds for one answer: more than clock/lock lets a statement and its wait for a lock take
)


def read(conn: Connection) -> datetime:
    """What the server's clock says."""
    return cast("tuple[datetime]", conn.execute(query("clock/read")).fetchone())[0]


def follow(conn: Connection, step: Step) -> timedelta | None:
    """Move the counts by what nobody moved them by yet; by how much, or None. All counts are locked meanwhile."""
    values = {
        "seen_at": step.seen_at,
        "earliest": step.earliest,
        "expected": step.expected,
        "at": step.at,
        "tolerance": step.tolerance,
        "slack": SLACK,
    }
    with patient(conn, PATIENCE), conn.transaction():
        path_settings(conn)
        conn.execute(query("clock/lock"))
        row = conn.execute(query("clock/note"), values).fetchone()
        if row is None:
            return None
        values["ahead"] = row[0]
        others = step.at - step.earliest - row[0]
        values["until"] = step.expected + others  # theirs have moved what was granted
        conn.execute(query("clock/move_mailboxes"), values)
        conn.execute(query("clock/move_windows"), values)
    return timedelta(seconds=row[0].total_seconds())
