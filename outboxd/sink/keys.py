"""The memory of idempotency keys: what was answered under a key, and which keys are in flight.

A key belongs to one endpoint, covers the whole body (of a batch: every item and their order), is compared by the
bytes' hash, and is forgotten after its time. Only successes are remembered: a refused request may be repaired.
"""

import collections
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Remembered:
    """A success under one key. `at` in Unix seconds."""

    at: float
    sha256: str
    answer: bytes
    provider_ids: tuple[str, ...]


class Keys:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._known: collections.OrderedDict[tuple[str, str], Remembered] = collections.OrderedDict()
        self._flying: set[str] = set()

    def find(self, call: str, key: str, *, since: float) -> Remembered | None:
        """What was answered under this key at this endpoint, if that is not longer ago than `since`."""
        while self._known and next(iter(self._known.values())).at < since:
            self._known.popitem(last=False)
        return self._known.get((call, key))

    def remember(self, call: str, key: str, answered: Remembered) -> None:
        """A success; in flight until `land`."""
        self._known[call, key] = answered
        self._flying.add(key)

    def flies(self, key: str) -> bool:
        """Whether a request with this key waits for its answer."""
        return key in self._flying

    def land(self, key: str) -> None:
        """The answer is out: a repetition is a replay from now on."""
        self._flying.discard(key)
