"""What the provider's ledger says about limits: when emails arrived, and how many in any true sliding window."""

import bisect
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping

from outboxd.sink.ledger import Entry
from outboxd.sink.server import Running


def accepted(running: Running) -> list[tuple[float, str]]:
    """(Unix seconds, uid) of every email that was accepted, in order."""
    found = [
        (entry.at, uid) for entry in running.provider.entries if entry.verdict == "new" for uid in entry.uids
    ]
    return sorted(found)


def asked(running: Running) -> list[Entry]:
    """Every request to send, whatever became of it, in order."""
    return sorted(
        (entry for entry in list(running.provider.entries) if entry.verdict != "read"), key=lambda e: e.at
    )


def most_within(times: list[float], window: float) -> int:
    """The most in any sliding window, event by event."""
    ordered = sorted(times)
    worst = (place + 1 - bisect.bisect_right(ordered, at - window) for place, at in enumerate(ordered))
    return max(worst, default=0)


def by_key(
    arrivals: Iterable[tuple[float, str]], keys_of: Callable[[str], Iterable[Hashable]]
) -> Mapping[Hashable, list[float]]:
    """The arrivals of each key that an email counts for."""
    found: dict[Hashable, list[float]] = defaultdict(list)
    for at, uid in arrivals:
        for key in keys_of(uid):
            found[key].append(at)
    return found


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def filled(times: list[float], most: int, period: float, *, lost: int = 0) -> float:
    """What share of what a limit allows was used once it was used up, with demand all the time.

    `most` may go in every `period`: from the instant when that many had gone, the last of n goes (ceil(n / most) - 1)
    periods later at best. `lost` shares were granted to a daemon that died before it asked.
    """
    ordered = sorted(times)
    best = (-(-(len(ordered) + lost) // most) - 1) * period
    return min(1.0, best / max(ordered[-1] - ordered[most - 1], 1e-9))
