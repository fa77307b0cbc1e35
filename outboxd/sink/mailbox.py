"""The accepted emails, newest last: what the inbox shows and what GET /emails reads. Bounded in number and in bytes."""

import collections
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

MOST_BYTES: Final = 256 * 1024 * 1024  # of request bodies


@dataclass(slots=True)
class Kept:
    """An accepted email. `at` in Unix seconds, `size` its share of the request's bytes."""

    provider_id: str
    at: float
    email: dict[str, Any]
    key: str
    size: int = 0
    asks: int = 1
    scheduled_at: datetime | None = None
    canceled: bool = False


class Mailbox:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self.mails: collections.OrderedDict[str, Kept] = collections.OrderedDict()
        self._bytes = 0

    def put(self, kept: Kept, *, most: int) -> None:
        """Keep it, and let the oldest go where there are too many."""
        self.mails[kept.provider_id] = kept
        self._bytes += kept.size
        while len(self.mails) > most or (self._bytes > MOST_BYTES and len(self.mails) > 1):
            self._bytes -= self.mails.popitem(last=False)[1].size

    def asked_again(self, provider_ids: tuple[str, ...]) -> None:
        """A request that was answered before came again."""
        for provider_id in provider_ids:
            if provider_id in self.mails:
                self.mails[provider_id].asks += 1
