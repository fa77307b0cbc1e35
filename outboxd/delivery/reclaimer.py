"""The reclaimer: leases whose time is over give back what they hold.

Only `lease_until` decides, never a list of workers. Each email counts as asked at its claim. After the connection was
lost it waits, so that settlers can flush what they know first.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from outboxd import metrics
from outboxd.db import lease, unanswered, word
from outboxd.db.policy import Policies
from outboxd.db.session import Connection, ConnectionLostError, Session

log = logging.getLogger(__name__)

CALM: Final = 5.0  # seconds after a lost connection


@dataclass(slots=True)
class Reclaimer:
    """One round at a time; `every` calls it. `wake` tells the claimer that something went back."""

    session: Session
    crash_limit: int
    policies: Policies
    not_before: float = 0.0
    wake: Callable[[], object] = bool

    def round(self) -> None:
        """Give back what ran out, hear words that crossed, end what got no answer in time, follow a change of policy."""
        try:
            self.session.run(self._reclaim)
        except ConnectionLostError:
            self.not_before = time.monotonic() + CALM

    def _reclaim(self, conn: Connection) -> None:
        anything, policy_version = lease.any_expired(conn)
        self.policies.follow(conn, policy_version)
        if not anything or time.monotonic() < self.not_before:
            return
        reclaimed = lease.reclaim(conn, crash_limit=self.crash_limit)
        if any(email.taken in {"again", "kept"} for email in reclaimed):
            self.wake()
        for email in reclaimed:
            metrics.leases_reclaimed.add(1)
            log.warning(
                "a lease ended without an outcome",
                extra={"uid": str(email.uid), "crash_streak": email.streak, "then": email.taken},
            )
            if email.taken == "unknown":
                metrics.quarantined.add(1)
        # Last: these may wait for a lock that somebody silent holds, and leases wait for nobody.
        word.apply(conn)
        self._end_unanswered(conn)

    def _end_unanswered(self, conn: Connection) -> None:
        ended = unanswered.end(conn)
        if ended:
            metrics.expired_keys.add(len(ended))
            log.error(
                "emails ended as unknown: asked 23 hours ago and never answered", extra={"emails": len(ended)}
            )
