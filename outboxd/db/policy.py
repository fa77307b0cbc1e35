"""Retry policy: rows of outboxd.queue and outboxd.email_type, read while running."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from outboxd.core.limits import Limits, from_rule
from outboxd.core.retry import Policy
from outboxd.db.limit import open_lanes
from outboxd.db.query import query
from outboxd.db.session import Connection

FALLBACK: Final = Policy(
    max_attempts=3, backoff="exponential", base=timedelta(seconds=5), give_up_after=timedelta()
)
FREED: Final = 10_000  # keys of limits that are remembered from one round to the next


@dataclass(slots=True)
class Policies:
    """The policies as last read; `refresh` replaces them whole, so that any thread may ask meanwhile."""

    time_scale: float = 1.0
    limits: Limits = field(default_factory=Limits)
    _known: dict[tuple[str, str | None], Policy] = field(default_factory=dict)
    _version: int = -1  # none was read
    _reopen: int = 0  # rounds in which lanes are still to be opened
    _freed: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=FREED))
    _freed_before: set[tuple[str, str]] = field(default_factory=set)

    def of(self, queue: str, type_: str) -> Policy:
        """The type's policy, else the queue's."""
        known = self._known
        return known.get((queue, type_)) or known.get((queue, None)) or FALLBACK

    def follow(self, conn: Connection, version: int) -> None:
        """Read them again where policy has another version than these; for each second.

        The version was read before the rows, so that rows are never older than the version that they go by. A change
        opens the lanes that limits closed: now, and a round later, when nobody settles by the old ones any more. A start
        does so once: policy may have changed while nobody ran.
        """
        if version != self._version:
            self.refresh(conn)
            self._reopen = 1 if self._version < 0 else 2
            self._version = version
        if self._reopen:
            conn.execute(query("lane/reopen"), {"now": None})
            self._reopen -= 1
        self._open_again(conn)

    def gave_back(self, keys: Iterable[tuple[str, str]]) -> None:
        """Shares of limits with these (kind, key) went back, and opened their lanes. For any thread.

        Somebody may have been refused before that and close the lane after it, so it is opened once more, when a whole
        round has passed. Lost with the connection, the next share that goes back opens it.
        """
        self._freed.extend(keys)

    def _open_again(self, conn: Connection) -> None:
        due, self._freed_before = (
            self._freed_before,
            {self._freed.popleft() for _ in range(len(self._freed))},
        )
        if due:
            kinds, keys = zip(*sorted(due), strict=True)
            open_lanes(conn, kinds, keys)

    def refresh(self, conn: Connection) -> None:
        """Read them again, and the limits."""
        rules = [from_rule(*row) for row in conn.execute(query("policy/rules")).fetchall()]
        overrides = {name for (name,) in conn.execute(query("policy/overrides")).fetchall()}
        critical = {name for (name,) in conn.execute(query("policy/critical")).fetchall()}
        self.limits = Limits(rules, time_scale=self.time_scale, overrides=overrides, critical=critical)
        self._known = {
            (queue, type_): Policy(
                max_attempts=most, backoff=backoff, base=base, give_up_after=give_up_after, batch=may_share
            )
            for queue, type_, most, backoff, base, give_up_after, may_share in conn.execute(
                query("policy/all")
            ).fetchall()
        }
