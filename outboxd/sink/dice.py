"""Which fault a request meets: by recipient (`fault+KIND.N@…`: the first N asks of that email), else by dice."""

import collections
import random
from collections.abc import Sequence
from typing import Final

from outboxd.sink.ask import Ask
from outboxd.sink.options import FAULTS, Fault, SinkOptions

MARK: Final = "fault+"


class Dice:
    """Not thread-safe: its owner holds a lock. Repeatable by the options' seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - faults, not secrets
        self._met: collections.Counter[tuple[str, str]] = collections.Counter()

    def new_id(self) -> str:
        """A UUID of version 4."""
        digits = f"{self._random.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def cast(self, ask: Ask, options: SinkOptions, *, marked: bool) -> tuple[Fault, int] | None:
        """The fault and the index of the email that has it. One faulty recipient in a batch is a fault of the whole request.

        `marked` says whether the body can hold a faulty recipient at all.
        """
        if marked:
            for index, recipients in enumerate(ask.recipients):
                fault = self._by_recipient(
                    recipients, ask.uids[index] or ask.key, counted=options.counted_faults
                )
                if fault is not None:
                    return fault, index
        for fault in options.faults:
            if self._random.random() < fault.probability:
                return fault, 0
        return None

    def _by_recipient(self, recipients: Sequence[str], email: str, *, counted: bool) -> Fault | None:
        """N counts by email, whatever requests and keys it travels under."""
        for address in recipients:
            local = address.partition("@")[0]
            if local.startswith(MARK):
                kind, _, times = local.removeprefix(MARK).partition(".")
                if kind not in FAULTS:
                    continue
                if not times.isdecimal():
                    return Fault(kind)
                meeting = (address, email)
                if counted and self._met[meeting] < int(times[:9]):
                    self._met[meeting] += 1
                    return Fault(kind)
        return None
