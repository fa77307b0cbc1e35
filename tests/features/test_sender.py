"""A sender between two requests: what it does at the stop, and when it is told to wait while it waits already."""

import threading

import pytest
from factories import HOME

from outboxd.db.session import Session
from outboxd.delivery import sender
from outboxd.delivery.brake import Brake
from outboxd.delivery.hand import Hand, Held
from outboxd.delivery.pacer import Pacer
from outboxd.delivery.sender import Sending
from outboxd.delivery.slowstart import SlowStart


class Waits(Hand):
    """A hand that has something for whoever asks, and counts how often that is."""

    asked = 0

    def wait(self) -> bool:
        Waits.asked += 1
        return Waits.asked < 50

    def leave(self) -> None:
        pass


def test_a_sender_without_a_permit_ends_at_the_stop():
    stop = threading.Event()
    stop.set()
    hand = Waits(1)
    pacer = Pacer(Session("", "pacer", stop=stop), "default", stop, lambda _: None)
    reports: list[Held] = []
    sending = Sending(hand, Brake(), pacer, HOME, reports.append, stop, 5.0, SlowStart(1))
    assert sender._next(sending, bool) is None
    assert Waits.asked <= 1


class Permits:
    """A pacer that has one for whoever comes."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def take(self, _within: float) -> bool:
        self.said.append("permit")
        return True


@pytest.mark.parametrize("stops", ["while it was told to wait", "while it connects"])
def test_a_sender_that_is_stopped_takes_no_permit(stops):
    stop, brake, hand = threading.Event(), Brake(), Waits(1)
    Waits.asked = 0
    said: list[str] = []

    def connect() -> None:
        said.append("connect")
        stop.set()

    sending = Sending(hand, brake, Permits(said), HOME, [].append, stop, 5.0, SlowStart(1))
    if stops == "while it was told to wait":
        brake.hold(60)
        threading.Timer(0.05, stop.set).start()
    assert sender._next(sending, connect) is None
    assert said == ([] if stops == "while it was told to wait" else ["connect"])


def test_a_permit_is_taken_by_who_is_connected():
    stop, hand = threading.Event(), Waits(1)
    Waits.asked = 0
    said: list[str] = []
    hand.take = lambda: said.append("email") or held
    held = object()
    sending = Sending(hand, Brake(), Permits(said), HOME, [].append, stop, 5.0, SlowStart(1))
    assert sender._next(sending, lambda: said.append("connection")) is held
    assert said == ["connection", "permit", "email"]


class HeldMeanwhile:
    """While a sender waits for a permit, the provider tells another one to wait."""

    def __init__(self, brake: Brake, stop: threading.Event) -> None:
        self.brake, self.stop, self.given_back = brake, stop, 0

    def take(self, _within: float) -> bool:
        self.brake.hold(60)
        self.stop.set()
        return True

    def give_back(self) -> None:
        self.given_back += 1


def test_a_permit_is_of_no_use_where_the_provider_said_to_wait_meanwhile():
    stop, brake, hand = threading.Event(), Brake(), Waits(1)
    Waits.asked = 0
    taken: list[bool] = []
    hand.take = lambda: taken.append(True)
    pacer = HeldMeanwhile(brake, stop)
    sending = Sending(hand, brake, pacer, HOME, [].append, stop, 5.0, SlowStart(1))
    assert sender._next(sending, bool) is None
    assert (taken, pacer.given_back) == ([], 1)
