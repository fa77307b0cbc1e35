"""A machine that sleeps (suspended, hibernated, a paused VM): what its daemon has in hand is too old when it wakes."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from factories import HOME, claim, insert, settler_without_thread, slot, uid_of

from outboxd.core.outcome import Ambiguous, Cancelled, Expired, Returned
from outboxd.daemon import MARGIN
from outboxd.delivery.brake import Brake
from outboxd.delivery.hand import Hand, Held
from outboxd.delivery.leasing import Leasing, lease_emails
from outboxd.delivery.pacer import Pacer
from outboxd.delivery.recheck import recheck
from outboxd.delivery.sender import Result, Sending, send_one
from outboxd.delivery.settler import settle
from outboxd.delivery.slowstart import SlowStart
from outboxd.resend.answer import TransportFailure

LEASE = timedelta(seconds=60)
NEED = (MARGIN + timedelta(seconds=30)).total_seconds()

Sleep = Callable[[float], None]


@pytest.fixture
def sleep(monkeypatch) -> Sleep:
    """Lets the machine sleep for so many seconds: monotonic time stands still meanwhile, the time since boot does not."""
    slept, real = [0.0], time.clock_gettime
    monkeypatch.setattr(
        time, "clock_gettime", lambda which: real(which) + (sum(slept) if which == time.CLOCK_BOOTTIME else 0)
    )
    return slept.append


@dataclass
class Provider:
    """Gives no complete answer, and the machine sleeps for so long meanwhile."""

    sleep: Sleep
    seconds: float = 0.0
    asked: int = 0

    def send(self, _body: bytes, _key: str) -> TransportFailure:
        self.asked += 1
        self.sleep(self.seconds)
        return TransportFailure("ambiguous", "cut off")


@pytest.fixture
def leasing() -> Leasing:
    """A daemon's, with nothing in hand."""
    settler = settler_without_thread()
    return Leasing(Hand(1), settler, settler.admission, uuid4(), HOME, LEASE, bool)


@pytest.fixture
def sending(leasing) -> Sending:
    """What the senders of that daemon share."""
    pacer = Pacer(leasing.settler.session, "default", threading.Event(), bool)
    report = leasing.settler.report
    return Sending(leasing.hand, Brake(), pacer, HOME, report, threading.Event(), NEED, SlowStart(1))


def leased(leasing: Leasing, conn: psycopg.Connection) -> None:
    """One email is claimed, and in hand."""
    assert len(lease_emails(leasing, conn, [slot()], 1)) == 1


def taken(leasing: Leasing) -> Held:
    assert leasing.hand.wait()
    held = leasing.hand.take()
    assert held is not None
    return held


def test_nothing_in_hand_is_fresh_after_a_sleep(conn, leasing, sleep):
    insert(conn)
    leased(leasing, conn)
    assert leasing.hand.wait()
    sleep(120)
    assert leasing.hand.take() is None


def test_what_a_sender_took_before_a_sleep_is_returned_without_a_request(conn, leasing, sending, sleep):
    insert(conn)
    leased(leasing, conn)
    held, provider = taken(leasing), Provider(sleep)
    sleep(120)
    assert send_one(provider, held, sending) == Result(held, Returned())
    assert provider.asked == 0


def test_what_waits_is_handed_back_after_a_sleep_that_took_its_lease(conn, leasing, sleep):
    insert(conn)
    leased(leasing, conn)
    sleep(120)
    recheck(leasing, conn, NEED)
    assert leasing.settler.inbox.get_nowait().outcome == Returned()
    assert leasing.hand.empty()


def test_the_gates_are_asked_again_after_a_sleep_that_left_the_lease(conn, leasing, sleep):
    id_ = insert(conn)
    leased(leasing, conn)
    conn.execute("select outboxd.cancel(%s)", (uid_of(conn, id_),))
    sleep(5)
    recheck(leasing, conn, NEED)
    assert type(leasing.settler.inbox.get_nowait().outcome) is Cancelled


def test_what_expired_in_a_sleep_is_not_asked_for(conn, leasing, sending, sleep):
    (expires_at,) = conn.execute("select clock_timestamp() + interval '10 s'").fetchone()
    insert(conn, expires_at=expires_at)
    leased(leasing, conn)
    held, provider = taken(leasing), Provider(sleep)
    sleep(11)
    assert type(send_one(provider, held, sending).outcome) is Expired
    assert provider.asked == 0


def test_an_ask_that_a_sleep_fell_into_began_before_it(conn, leasing, sending, sleep):
    id_ = insert(conn)
    leased(leasing, conn)
    result = send_one(Provider(sleep, seconds=20), taken(leasing), sending)
    assert type(result.outcome) is Ambiguous
    settle(leasing.settler, conn, [result])
    (again,) = claim(conn, now=(asked_by := datetime.now(UTC)) + timedelta(minutes=5))
    assert again.id == id_
    assert timedelta(seconds=20) <= asked_by - again.first_asked_at < timedelta(seconds=40)
