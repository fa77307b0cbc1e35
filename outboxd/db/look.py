"""One look at all that waits: what is paused, what is due and in which slots, and which batches; in one round trip."""

from dataclasses import dataclass

from outboxd.db import batch, lease, pause
from outboxd.db.session import Connection, path_settings


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw. `usual` is each queue's own slot, the most urgent first, whether it has rows or not."""

    paused: pause.Paused
    waiting: list[lease.Waiting]
    batches: list[batch.Waiting]
    usual: list[lease.Slot]


def around(conn: Connection, account: str) -> Look:
    """Look, without a lock: what somebody else has locked is seen too."""
    with conn.pipeline(), conn.transaction():
        path_settings(conn)
        paused = pause.active(conn)
        slots = lease.ask_slots(conn, account)
        batches = batch.ask_waiting(conn, account)
        usual = lease.ask_usual(conn)
    return Look(
        paused.read(),
        [lease.Waiting(*row) for row in slots.fetchall()],
        [batch.Waiting(*row) for row in batches.fetchall()],
        [lease.Slot(queue, 0, priority) for queue, priority in usual.fetchall()],
    )
