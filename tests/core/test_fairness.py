"""Who is served how much of a claim, in simulated time: nothing starves, and shares are those of the weights."""

import itertools
from collections import Counter, deque

import pytest

from outboxd.core.fairness import AGEING, Candidate, serve


class World:
    """Slots with an email due each `every` seconds, claims of a fixed size in fixed steps, and a clock of its own."""

    def __init__(self, *, limit: int, per_step: float, request: int = 1) -> None:
        self.now, self.turn, self.limit, self.per_step = 0.0, 0, limit, per_step
        self.request = request
        self.slots: list[tuple[int, int, int]] = []  # priority, queue, weight
        self.waiting: list[deque[float]] = []
        self.served: Counter[int] = Counter()
        self.longest: Counter[int] = Counter()

    def add(self, priority: int, queue: int, *, weight: int = 1, due: int = 0) -> int:
        self.slots.append((priority, queue, weight))
        self.waiting.append(deque([0.0] * due))
        return len(self.slots) - 1

    def fill(self, slot: int, emails: int) -> None:
        self.waiting[slot].extend([self.now] * emails)

    def claim(self) -> None:
        candidates = [
            Candidate(n, *self.slots[n], self.now - due[0]) for n, due in enumerate(self.waiting) if due
        ]
        room = self.limit
        for slot, most in serve(candidates, self.limit, self.turn, request=self.request):
            for _ in range(min(most, room, len(self.waiting[slot]))):
                self.longest[slot] = max(self.longest[slot], int(self.now - self.waiting[slot].popleft()))
                self.served[slot] += 1
                room -= 1
        self.turn += 1
        self.now += self.per_step


@pytest.mark.parametrize("request_", [1, 100])
@pytest.mark.parametrize("limit", [1, 10, 100, 500])
def test_the_lowest_priority_moves_through_an_hour_in_which_the_highest_is_saturated(limit, request_):
    world = World(limit=limit, per_step=1.0, request=request_)
    high, low = world.add(1, 1), world.add(100, 2, due=10_000)
    moved, last = [], 0
    while world.now < 3600:
        world.fill(high, limit)  # as much as all claims can take
        world.claim()
        if world.served[low] > last:
            moved.append(world.now)
            last = world.served[low]
    assert moved[0] <= 2 * AGEING
    assert max(after - before for before, after in itertools.pairwise(moved)) <= AGEING
    assert world.served[high] >= 0.85 * 3600 * limit


def test_every_priority_moves_while_the_highest_is_saturated():
    world = World(limit=100, per_step=1.0)
    high = world.add(1, 1)
    others = [world.add(priority, priority, due=2000) for priority in (5, 10, 50, 100)]
    while world.now < 3600:
        world.fill(high, 100)
        world.claim()
    assert all(world.served[slot] > 0 for slot in others)


def test_a_fresh_urgent_mail_has_its_half_of_a_claim_however_old_the_others_are():
    old, fresh = Candidate(0, 100, 2, 1, 7200.0), Candidate(1, 1, 1, 1, 0.0)
    for turn in range(20):
        assert dict(serve([old, fresh], 100, turn))[1] >= 50


def test_who_is_lifted_as_high_as_the_first_leaves_no_part_of_a_claim_unused():
    shares = serve([Candidate(0, 10, 2, 1, 700.0), Candidate(1, 1, 1, 1, 0.0)], 20, 3)
    assert sum(most for _, most in shares) >= 20


@pytest.mark.parametrize("limit", [1, 3])
def test_a_claim_of_few_emails_is_not_all_for_the_oldest(limit):
    old, fresh = Candidate(0, 100, 2, 1, 100.0), Candidate(1, 1, 1, 1, 0.0)
    first = Counter(serve([old, fresh], limit, turn)[0][0] for turn in range(100))
    assert first[1] >= 70


def test_queues_of_one_priority_share_by_weight():
    world = World(limit=100, per_step=0.1)
    heavy, light = world.add(10, 1, weight=3, due=100_000), world.add(10, 2, due=100_000)
    for _ in range(400):
        world.claim()
    assert 2.7 <= world.served[heavy] / world.served[light] <= 3.3


def test_who_waits_longer_in_one_priority_leaves_the_others_their_turn():
    old, fresh = Candidate(0, 10, 1, 1, 3600.0), Candidate(1, 10, 1, 1, 0.0)
    for turn in range(10):
        assert dict(serve([old, fresh], 100, turn)) == {0: 50, 1: 50}


def test_lanes_share_what_their_queue_has_and_no_more():
    lanes = [Candidate(n, 10, 1, 1, 0.0) for n in range(4)]
    other = Candidate(9, 10, 2, 1, 0.0)
    shares = dict(serve([*lanes, other], 100, 0))
    assert shares[9] == 50
    assert sorted(shares[n] for n in range(4)) == [12, 12, 13, 13]


@pytest.mark.parametrize("lanes", [1, 100, 300])
@pytest.mark.parametrize(("one", "other"), [(1, 1), (1, 9), (3, 1)])
@pytest.mark.parametrize("request_", [1, 100])
@pytest.mark.parametrize("limit", [1, 20, 50])
def test_a_queue_of_many_lanes_has_no_more_than_its_weight(lanes, one, other, limit, request_):
    world = World(limit=limit, per_step=0.01, request=request_)
    many = [world.add(10, 1, weight=one, due=6000 // lanes + 60) for _ in range(lanes)]
    alone = world.add(10, 2, weight=other, due=6000)
    for _ in range(100):
        world.claim()
    assert world.served[alone] == pytest.approx(100 * limit * other / (one + other), rel=0.05, abs=1)
    assert world.served.total() == 100 * limit
    served = [world.served[slot] for slot in many]
    share = max(1, 100 * limit // lanes // 4) if limit >= request_ else limit
    assert max(served) - min(served) <= share


@pytest.mark.parametrize(("lanes", "limit"), [(7, 3), (1000, 100), (5, 5), (2, 100)])
def test_more_lanes_than_a_claim_takes_are_served_one_after_the_other(lanes, limit):
    world = World(limit=limit, per_step=1.0)
    for _ in range(lanes):
        world.add(10, 1, due=1000)
    rounds = -(-lanes // limit)
    for _ in range(2 * rounds):
        world.claim()
    assert min(world.served.values()) >= 1
    assert len(world.served) == lanes


@pytest.mark.parametrize("limit", [2, 20, 99])
def test_a_claim_of_less_than_a_request_is_one_slots_and_the_others_have_what_that_leaves(limit):
    of = [Candidate(n, 10, n % 2, 1, 0.0) for n in range(6)]
    firsts = Counter()
    for turn in range(60):
        shares = serve(of, limit, turn, request=100)
        assert {most for _, most in shares} == {limit}
        assert len(dict(shares)) == len(shares) >= min(limit, 6)
        firsts[shares[0][0]] += 1
    assert set(firsts.values()) == {10}


def test_a_small_claim_takes_no_more_of_a_slot_than_it_may():
    bounded = [Candidate(0, 10, 1, 1, 0.0, most=3), Candidate(1, 10, 2, 1, 0.0)]
    assert [dict(serve(bounded, 20, turn, request=100)) for turn in (0, 1)] == [{0: 3, 1: 20}] * 2
