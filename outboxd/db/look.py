"""One look at all that waits: what is paused, what is due and in which slots, and which batches; in one round trip."""

from dataclasses import dataclass

from outboxd.db import batch, lease, pause
from outboxd.db.query import query
from outboxd.db.session import Connection, path_settings


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw. `usual` is each queue's own slot, the most urgent first, whether it has rows or not.

    `ends_in`: the seconds until pauses end by themselves. `pauses` is `paused` as people want to see it.
    """

    paused: pause.Paused
    ends_in: list[float]
    waiting: list[lease.Waiting]
    batches: list[batch.Waiting]
    usual: list[lease.Slot]
    pauses: list[pause.Active]


def around(conn: Connection, account: str) -> Look:
    """Look, without a lock: what somebody else has locked is seen too."""
    with conn.pipeline(), conn.transaction():
        path_settings(conn)
        paused = pause.active(conn)
        slots = lease.ask_slots(conn, account)
        batches = batch.ask_waiting(conn, account)
        usual = lease.ask_usual(conn)
    pauses = paused.read_all()
    return Look(
        frozenset((one.kind, one.key) for one in pauses),
        [one.ends_in for one in pauses if one.ends_in is not None],
        [lease.Waiting(*row) for row in slots.fetchall()],
        [batch.Waiting(*row) for row in batches.fetchall()],
        [lease.Slot(queue, 0, priority) for queue, priority in usual.fetchall()],
        pauses,
    )


def anything(conn: Connection) -> bool:
    """Whether anything waits at all or is closed: one statement, for who is idle."""
    row = conn.execute(query("ready/anything"), prepare=True).fetchone()
    return row is None or bool(row[0])
