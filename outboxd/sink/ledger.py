"""The ledger: every request, before its answer leaves. It is the evidence of tests and demo.

Counters count all; of the requests the newest are kept, as many as carry a million emails. The file, if there is one,
has them all.
"""

import collections
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

MOST_EMAILS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. `verdict`: new, replay, conflict, in_flight, limited, refused, fault, read.

    `items` emails were in it, with these `uids` (the daemon's tag; "" where there is none) and recipients `to`;
    `accepted` of them were, as `provider_ids`. `uid` and `provider_id` are those of a single email, else "".
    """

    n: int
    at: float
    call: str
    key: str
    sha256: str
    items: int
    uid: str
    uids: Sequence[str]
    verdict: str
    status: int
    accepted: int
    provider_id: str
    provider_ids: Sequence[str]
    to: Sequence[str]
    fault: str = ""

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


class Ledger:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self, path: str | None) -> None:
        self.entries: collections.deque[Entry] = collections.deque()
        self.accepted_by_uid: collections.Counter[str] = collections.Counter()
        self.verdicts: collections.Counter[str] = collections.Counter()
        self._bodies: dict[str, str] = {}
        self._two_bodies: set[str] = set()
        self._held = 0
        self._written = 0
        self._file: IO[str] | None = Path(path).open("a") if path else None  # noqa: SIM115 - as long as the process

    @property
    def next_number(self) -> int:
        """Of the entry that comes next, from 1."""
        return self._written + 1

    def saw(self, key: str, sha256: str) -> None:
        """A request with this key had this body, whatever became of it."""
        if key and self._bodies.setdefault(key, sha256) != sha256:
            self._two_bodies.add(key)

    def write(self, entry: Entry) -> None:
        """Count it and keep it."""
        self._written += 1
        self.entries.append(entry)
        self._held += max(1, entry.items)
        while self._held > MOST_EMAILS:
            self._held -= max(1, self.entries.popleft().items)
        self.verdicts[entry.verdict] += 1
        if self._file is not None:
            self._file.write(json.dumps(entry.record()) + "\n")
            self._file.flush()

    def accepted(self, uid: str) -> None:
        """One email was accepted; `uid` names it for the whole run."""
        self.accepted_by_uid[uid] += 1

    def summary(self) -> dict[str, object]:
        """`accepted` counts emails; `duplicates` are uids that were accepted more than once, in whatever requests."""
        return {
            "requests": sum(self.verdicts.values()),
            "verdicts": dict(self.verdicts),
            "accepted": sum(self.accepted_by_uid.values()),
            "uids": len(self.accepted_by_uid),
            "duplicates": sum(1 for times in self.accepted_by_uid.values() if times > 1),
            "keys_with_two_bodies": len(self._two_bodies),
        }
