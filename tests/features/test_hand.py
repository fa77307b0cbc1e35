"""What waits in hand: who goes first, and that nobody is overtaken for ever."""

from dataclasses import replace

import pytest
from core.test_retry import EMAIL

from outboxd.core.batch import Parcel
from outboxd.delivery import hand as hands
from outboxd.delivery.hand import OVERTAKEN, Hand, Held


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def steady(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(hands, "steady", clock.steady)
    return clock


def held(clock: Clock, id_: int, priority: int) -> Held:
    parcel = Parcel((replace(EMAIL, id=id_, priority=priority),))
    return Held(parcel, clock.now, clock.now + 60, clock.now)


def taken(hand: Hand) -> int:
    assert hand.wait()
    found = hand.take()
    assert found is not None
    hand.done(found, None)
    return found.parcel.first.id


def test_more_urgent_mail_goes_before_what_was_claimed_already(clock):
    hand = Hand(1)
    hand.put([held(clock, 1, 100), held(clock, 2, 100)])
    hand.put([held(clock, 3, 1)])
    assert [taken(hand) for _ in range(3)] == [3, 1, 2]


def test_what_was_overtaken_for_long_enough_goes_before_urgent_mail_that_comes_without_end(clock):
    hand = Hand(1)
    hand.put([held(clock, 1, 100)])
    went = []
    for number in range(2, 40):
        clock.now += OVERTAKEN / 10
        hand.refresh(list(hand._waiting), clock.now, lambda _: False)
        hand.put([held(clock, number, 1), held(clock, 1000 + number, 1)])
        went.append(taken(hand))
        if went[-1] == 1:
            break
    assert went[-1] == 1
    assert len(went) in {10, 11}


def test_room_before_a_priority_counts_what_is_more_urgent_alone(clock):
    hand = Hand(2)
    before = hand.room_before(100)
    hand.put([held(clock, 1, 100), held(clock, 2, 200)])
    unchanged = hand.room_before(100)
    hand.put([held(clock, 3, 1)])
    assert unchanged > 0
    assert hand.room_before(100) == hand.capacity() - 1
    assert before > 0


def emptied(clock: Clock, hand: Hand, backlog: list[str], rate: float) -> int:
    """Claim as a daemon does, two kinds of mail, of which those marked alone share no request; how many requests it took."""
    requests = 0
    while backlog or hand.waiting():
        room = hand.room()
        claimed, backlog = backlog[:room], backlog[room:]
        alone, shared = claimed.count("alone"), claimed.count("shared")
        sizes = [1] * alone + [shared] * bool(shared)
        hand.put(Held(Parcel((EMAIL,) * size), clock.now, clock.now + 60, clock.now) for size in sizes)
        clock.now += 1 / rate
        hand.refresh(list(hand._waiting), clock.now, lambda _: False)
        taken(hand)
        requests += 1
    return requests


@pytest.mark.parametrize("rate", [1.0, 2.0, 3.0])
def test_where_few_requests_go_a_backlog_fills_them_though_mail_came_one_by_one_before(clock, rate):
    hand = Hand(8)
    hand.pace(rate)
    for _ in range(20):
        emptied(clock, hand, ["alone"], rate)
    assert emptied(clock, hand, ["shared"] * 2_000, rate) <= 60


@pytest.mark.parametrize("rate", [1.0, 2.0, 3.0])
def test_where_few_requests_go_what_travels_alone_does_not_make_the_others_travel_alone(clock, rate):
    hand = Hand(8)
    hand.pace(rate)
    mixed = (["shared"] * 9 + ["alone"]) * 100
    assert emptied(clock, hand, mixed, rate) <= 300


@pytest.mark.parametrize("rate", [1.0, 2.0, 3.0])
def test_where_few_requests_go_and_nothing_may_share_one_few_emails_are_claimed_ahead(clock, rate):
    hand = Hand(8)
    hand.pace(rate)
    for number in range(200):
        emptied(clock, hand, ["alone"] * 3, rate)
        assert number < 10 or hand.capacity() <= 4 * max(1.0, rate)
