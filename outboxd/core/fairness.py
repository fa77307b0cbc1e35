"""Who is served how much of one claim: priorities in order, with ageing; queues by weight; lanes in turn. Pure.

A slot is served before another of a higher number. What waits grows older, and every `AGEING` of waiting lifts it by
one priority, so that nothing starves behind a saturated one: of each claim the oldest waiting slot outside the first
priority gets a small part once it is that old. Among slots of one priority the claim is divided by the weight of their
queues, within a queue evenly among its lanes, and who comes first changes from claim to claim.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Final

AGEING: Final = 60.0  # seconds of waiting that lift by one priority
LIFTED: Final = 0.1  # of a claim, for who waits behind others for longer than that


@dataclass(frozen=True, slots=True)
class Candidate:
    """A slot that has something due. `waited` is how long its first email has been due, in seconds."""

    slot: int
    priority: int
    queue: int
    weight: int
    waited: float
    most: int | None = None


def serve(
    candidates: Sequence[Candidate], limit: int, turn: int, *, request: int = 1
) -> list[tuple[int, int]]:
    """The slots of a claim of `limit` emails in serving order, and the most to take of each. `turn` counts claims.

    A claim of fewer emails than fit into one `request` is not divided, since parts of several slots share none: one
    slot has all of it, each in its turn, and the others have what that leaves.
    """
    if not candidates:
        return []
    if limit >= request:
        return _divided_among_all(candidates, limit, turn)
    first = _divided_among_all(candidates, 1, turn)[0][0]
    order = [first, *(slot for slot, _ in _divided_among_all(candidates, limit, turn) if slot != first)]
    most = {one.slot: _bounded(one, limit) for one in candidates}
    return [(slot, most[slot]) for slot in order]


def _divided_among_all(candidates: Sequence[Candidate], limit: int, turn: int) -> list[tuple[int, int]]:
    lifted = _lifted(candidates)
    ordered = sorted(candidates, key=lambda one: (lifted[one.priority], one.priority))
    shares: list[tuple[int, int]] = []
    for _, group in groupby(ordered, key=lambda one: lifted[one.priority]):
        shares += _divided(list(group), limit, turn)
    first = min(lifted)  # of the priorities themselves; `top` is the least that any of them counts as
    top = min(lifted.values())  # who is lifted as high as the first shares with them already
    behind = [
        one
        for one in candidates
        if one.priority != first and one.waited >= AGEING and lifted[one.priority] > top
    ]
    part = int(limit * LIFTED * (turn + 1)) - int(limit * LIFTED * turn)  # of a small claim: one now and then
    if behind and part > 0:
        oldest = max(behind, key=lambda one: one.waited)
        shares = [
            (oldest.slot, _bounded(oldest, part)),
            *(share for share in shares if share[0] != oldest.slot),
        ]
    return shares


def _lifted(candidates: Sequence[Candidate]) -> dict[int, int]:
    """What each priority counts as: its oldest lifts all of it, so that within one nobody's backlog goes first."""
    waited: dict[int, float] = {}
    for one in candidates:
        waited[one.priority] = max(one.waited, waited.get(one.priority, 0.0))
    return {priority: max(1, priority - int(oldest // AGEING)) for priority, oldest in waited.items()}


def _divided(group: list[Candidate], limit: int, turn: int) -> list[tuple[int, int]]:
    """Every queue its share by weight, and of that every lane as much as the others; together `limit`."""
    lanes: dict[int, list[Candidate]] = {}
    for one in group:
        lanes.setdefault(one.queue, []).append(one)
    places = _places([(queue, of[0].weight) for queue, of in lanes.items()], limit, turn)
    first = turn % len(places)
    return [
        (one.slot, _bounded(one, most))
        for queue, begin, end in places[first:] + places[:first]
        for one, most in _in_turn(lanes[queue], begin, end)
        if most > 0
    ]


def _places(weights: Sequence[tuple[int, int]], limit: int, turn: int) -> list[tuple[int, int, int]]:
    """Of each queue, how many places it had before this claim and has after it, dealt out in rounds by weight."""
    total, ends = sum(weight for _, weight in weights), accumulate(weight for _, weight in weights)

    def had(of: int, weight: int, end: int) -> int:
        return of // total * weight + min(max(of % total - (end - weight), 0), weight)

    return [
        (queue, had(turn * limit, weight, end), had((turn + 1) * limit, weight, end))
        for (queue, weight), end in zip(weights, ends, strict=True)
    ]


def _in_turn(lanes: list[Candidate], begin: int, end: int) -> Iterator[tuple[Candidate, int]]:
    """A queue's places among its lanes; the next claim begins where this one ends."""
    start = begin % len(lanes)
    each, more = divmod(end - begin, len(lanes))
    for place, one in enumerate(lanes[start:] + lanes[:start]):
        yield one, each + (place < more)


def _bounded(one: Candidate, share: int) -> int:
    return share if one.most is None else min(share, one.most)
