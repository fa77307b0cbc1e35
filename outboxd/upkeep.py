"""What keeps the house in order beside the path: beats, partitions ahead, old figures and counts few, providers learned.

Each round stands alone: one that fails or is late costs nothing but tidiness, and nothing here decides about an email.
Every round looks at the server's clock, so that counts are pruned by true time: by the first pruning of a daemon that has
just started, all others have looked since, and whoever saw a step has moved what still counts.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final
from uuid import UUID

from outboxd import memory
from outboxd.db import hold, latency, limit, worker
from outboxd.db.session import Connection, ConnectionLostError, LockTimeoutError, Session, StoppedError
from outboxd.delivery.watch import Watch
from outboxd.providers import Providers

log = logging.getLogger(__name__)

TIDY: Final = 6  # rounds between two prunings


@dataclass(slots=True)
class Keeper:
    """The rounds, for one thread each: `round` on `session`, `learn` on `scout`, because DNS takes its time."""

    session: Session
    scout: Session
    worker: UUID
    threads: int
    stop: threading.Event
    providers: Providers
    rounds: int = 0
    busy: int = 0  # rounds in a row in which no partition could be made
    watch: Watch = field(default_factory=Watch)

    def round(self) -> None:
        """Every ten seconds: beat, keep partitions ahead, look at the clock, keep old figures, counts, histories and memory few."""
        self.run(self._round)

    def learn(self) -> None:
        """Learn which mailbox provider the domains belong to that were met on the path."""
        if self.providers.wants():
            with contextlib.suppress(ConnectionLostError, StoppedError):
                self.scout.run(self.providers.round)

    def forget(self) -> None:
        """Leave the workers table, if that costs no waiting."""
        if self.session.connected.is_set():
            self.run(lambda conn: worker.forget(conn, self.worker))

    def insist(self, work: Callable[[Connection], object]) -> None:
        """Do what nothing may begin without, such as reading the limits: again where the connection breaks."""
        while not self.run(work) and not self.stop.wait(0.05):
            pass

    def run(self, work: Callable[[Connection], object]) -> bool:
        """Do it on the keeper's connection; one that breaks is news, not an error. Whether it was done."""
        try:
            self.session.run(work)
        except ConnectionLostError:
            log.warning("keeper lost its connection")
            return False
        except StoppedError:
            return False
        return True

    def _extend(self, conn: Connection) -> None:
        """Partitions ahead, five at the least: where somebody has a table locked, the next rounds try again."""
        try:
            made = worker.extend_partitions(conn)
        except LockTimeoutError:
            self.busy += 1
            if self.busy % TIDY == 0:
                log.warning("no partitions made: somebody has a table locked", extra={"rounds": self.busy})
            return
        self.busy = 0
        if made:
            log.info("made partitions", extra={"tables": made})

    def _round(self, conn: Connection) -> None:
        worker.beat(
            conn, self.worker, version=version("outboxd"), threads=self.threads, stopping=self.stop.is_set()
        )
        self._extend(conn)
        now = self.watch.look(conn)
        self.rounds += 1
        if self.rounds % TIDY == 0:
            latency.prune(conn)
            limit.prune(conn, now=now)
            hold.prune(conn)
            memory.trim()
