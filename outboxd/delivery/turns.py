"""Tenants in turn: who crowds a queue gets a lane of its own, and a claim takes from lanes in turn.

Mail of tenants waits together, oldest first, until one has more than a few of what was claimed lately. Then what is due
behind that in its queue and priority is looked through once, in bulk, for as long as there is something to part, and every
tenant with more than a few has a lane from then on, into which its INSERTs go. Meanwhile nothing is claimed there, so that
another tenant waits for no more than the claim that showed the crowd; but no longer than `PATIENCE`. A few that were
claimed whole cost one look, which locks nothing. Where nobody uses tenants nothing is remembered or asked.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from outboxd.core.email import Claimed
from outboxd.db import parking
from outboxd.db.lease import Slot
from outboxd.db.session import Connection

MOST: Final = 10_000  # rows that one statement looks at
FEW: Final = 20  # emails of one tenant that are a crowd, in what was claimed lately or in one statement
RECENT: Final = 1_000  # emails outside of lanes that are remembered
PATIENCE: Final = 5.0  # seconds for which a queue is not claimed from while its tenants are parted

Place = tuple[int, int, str]  # queue, priority, tenant


@dataclass(slots=True)
class Turns:
    """What this daemon remembers of tenants. `crowded` is the slot that is being looked through, and how far."""

    crowded: Slot | None = None
    patience: float = PATIENCE
    _since: float = 0.0
    _recent: deque[Place] = field(default_factory=deque)
    _sizes: Counter[Place] = field(default_factory=Counter)

    def saw(self, emails: Iterable[Claimed]) -> None:
        """A claim brought these; some slot is crowded where one tenant had more than a few of them."""
        for email in emails:
            if email.tenant and email.lane == 0:
                place = (email.queue_id, email.priority, email.tenant)
                self._recent.append(place)
                self._sizes[place] += 1
                if self.crowded is None and self._sizes[place] >= FEW:
                    self.crowded = Slot(email.queue_id, 0, email.priority, email.scheduled_at, email.id)
                    self._since = time.monotonic()
        while len(self._recent) > RECENT:
            self._sizes[self._recent.popleft()] -= 1

    def keep_waiting(self, slot: Slot) -> bool:
        """Whether nothing is to be claimed there for the moment."""
        crowded = self.crowded
        return (
            crowded is not None
            and slot.lane >= 0
            and (slot.queue, slot.priority) == (crowded.queue, crowded.priority)
            and time.monotonic() < self._since + self.patience
        )

    def part(self, conn: Connection) -> bool:
        """Look through the next of the crowded slot; True once that is done, and lanes may have come.

        It is done at the end of what is due, and where the next `MOST` have no crowd among them: the next claim that
        meets one shows it.
        """
        crowded = self.crowded
        if crowded is None:
            return False
        found = parking.part(conn, crowded, few=FEW, limit=MOST)
        if found.seen < MOST or not found.moved:
            self.crowded = None
            self._recent.clear()
            self._sizes.clear()
            return True
        self.crowded = found.after
        return False
