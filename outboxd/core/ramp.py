"""How many requests at a time a provider gets that has not proved itself: few at first, twice as many each round.

After the start, after "too many requests", and after failures in a row that say "nobody is there", the width is small;
each definite answer widens it by one, so that a full round of answers doubles it. A provider that has just healed is
asked by a handful, not by every thread with a backlog behind it.
"""

from dataclasses import dataclass, replace
from typing import Final

from outboxd.core.outcome import (
    Ambiguous,
    Cancelled,
    Ended,
    Expired,
    Failed,
    Limited,
    Outcome,
    Parked,
    Returned,
    SentAll,
    Suppressed,
    Throttled,
)

FIRST: Final = 2  # requests at a time; not one, so that a single email that hangs holds nobody up
IN_A_ROW: Final = 3  # failures without a definite answer between them: an outage, not an accident


@dataclass(frozen=True, slots=True)
class Ramp:
    """`width` requests at a time are allowed, of at most `most`; `failures` in a row came last."""

    most: int
    width: int = FIRST
    failures: int = 0


def after(ramp: Ramp, outcome: Outcome | SentAll) -> Ramp:
    """The ramp once one more email has its outcome."""
    match outcome:
        case Cancelled() | Expired() | Returned() | Parked() | Suppressed() | Limited() | Ended():
            return ramp
        case Throttled():
            return Ramp(ramp.most)
        case Ambiguous() | Failed(transient=True):
            if ramp.failures + 1 >= IN_A_ROW:
                return Ramp(ramp.most, failures=IN_A_ROW)
            return replace(ramp, failures=ramp.failures + 1)
        case _:
            if ramp.width >= ramp.most and ramp.failures == 0:
                return ramp
            return Ramp(ramp.most, min(ramp.most, ramp.width + 1))
