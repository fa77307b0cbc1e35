"""Which fault a request meets: by recipient (`fault+KIND.N@…`: the first N asks of that email), else by dice."""

import collections
import random
from typing import Any

from outboxd.sink.ask import Ask, recipients_of, uid_of
from outboxd.sink.options import FAULTS, Fault, SinkOptions

MARK = "fault+"


class Dice:
    """Not thread-safe: its owner holds a lock. Repeatable by the options' seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - faults, not secrets
        self._met: collections.Counter[tuple[str, str]] = collections.Counter()

    def new_id(self) -> int:
        """128 bits for a UUID."""
        return self._random.getrandbits(128)

    def cast(self, ask: Ask, options: SinkOptions, *, marked: bool) -> tuple[Fault, dict[str, Any]] | None:
        """The fault and the email that has it. One faulty recipient in a batch is a fault of the whole request.

        `marked` says whether the body can hold a faulty recipient at all.
        """
        if marked:
            for email in ask.emails:
                fault = self._by_recipient(email, ask.key)
                if fault is not None:
                    return fault, email
        for fault in options.faults:
            if self._random.random() < fault.probability:
                return fault, next(iter(ask.emails), {})
        return None

    def _by_recipient(self, email: dict[str, Any], key: str) -> Fault | None:
        """N counts by email, whatever requests and keys it travels under."""
        for address in recipients_of(email):
            local = address.partition("@")[0]
            if local.startswith(MARK):
                kind, _, times = local.removeprefix(MARK).partition(".")
                known = kind in FAULTS
                if known and not times.isdigit():
                    return Fault(kind)
                meeting = (address, uid_of(email) or key)
                if known and self._met[meeting] < int(times):
                    self._met[meeting] += 1
                    return Fault(kind)
        return None
