"""A sender at the stop: it takes nothing more, and does not turn in circles until the hand is closed."""

import threading

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
    assert sender._next(sending) is None
    assert Waits.asked <= 1
