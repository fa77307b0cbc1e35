"""A sender thread: take a parcel from the hand, ask the provider once, pass the outcome on.

No transaction is open here and nothing is written. Before each ask: is it still wanted, is there time left in its
lease, does the provider allow requests and the account's pace one more. What cannot be asked is passed on as an
outcome like any other.
"""

import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from outboxd import metrics
from outboxd.core import wire
from outboxd.core.batch import Parcel
from outboxd.core.email import Claimed, Frozen
from outboxd.core.outcome import Ambiguous, Failure, Outcome, Paused, Rejected, Returned, SentAll, Throttled
from outboxd.delivery.brake import Brake
from outboxd.delivery.gates import judge
from outboxd.delivery.hand import Hand, Held
from outboxd.delivery.pacer import Pacer
from outboxd.delivery.slowstart import SlowStart
from outboxd.delivery.steady import steady
from outboxd.resend.answer import Answer, named_rate
from outboxd.resend.classify import WRONG_COUNT, classify, classify_batch
from outboxd.resend.client import Client
from outboxd.telemetry import span_for_ask

log = logging.getLogger(__name__)

PATIENCE: Final = 0.25  # seconds that a sender waits for a permit before it looks around again
UNTIL_PAUSED: Final = 2.0  # seconds that a refused account keeps this daemon quiet, until its pause is stored
TELLS_RATE: Final = (200, 429)
NOTHING_PAUSED: Final[frozenset[tuple[str, str]]] = frozenset()  # the claimer looks after pauses


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome for the settler; `asked_at` is `steady` seconds, None where nothing was asked.

    `members` is for a batch that was taken apart unasked: each one's own outcome.
    """

    held: Held
    outcome: Outcome | SentAll
    asked_at: float | None = None
    members: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class Sending:
    """What every sender thread shares. `need` is the seconds that a lease must still last for an ask to begin."""

    hand: Hand
    brake: Brake
    pacer: Pacer
    home: Frozen
    report: Callable[[Result], None]
    stop: threading.Event
    need: float
    slow: SlowStart


def send_all(sending: Sending, client: Client) -> None:
    """The thread: until the hand is closed."""
    while (held := _next(sending, client.connect)) is not None:
        connected_in = client.connected_in()
        result = send_one(client, held, sending)
        took = None if result.asked_at is None else steady() - result.asked_at + connected_in
        sending.slow.leave(result.outcome)
        _note(sending, result, took)
        sending.report(result)
        sending.hand.done(held, took)
    client.close()


def _next(sending: Sending, connect: Callable[[], object]) -> Held | None:
    """The next parcel, once the provider allows requests and there is a permit; None at the stop.

    Connected before that, since what is taken and permitted is to leave at once.
    """
    if not sending.slow.enter(sending.stop):
        return None
    while not sending.stop.is_set() and sending.hand.wait():
        if not sending.stop.wait(sending.brake.rest()):
            connect()
        if sending.stop.is_set() or sending.brake.rest() or not sending.pacer.take(PATIENCE):
            sending.hand.leave()
        elif sending.brake.rest():  # said while this one waited for its permit
            sending.pacer.give_back()
            sending.hand.leave()
        elif (held := sending.hand.take()) is not None:
            return held
        else:
            sending.pacer.give_back()
    return None


def send_one(client: Client, held: Held, sending: Sending) -> Result:
    """One parcel: check it, ask for it, say what came of it."""
    if held.lease_ends - steady() < sending.need:
        return Result(held, Returned())
    parcel = held.parcel
    if (stopped := judge(parcel, sending.home, NOTHING_PAUSED, now=held.now())) is not None:
        return Result(held, stopped.outcome, members=stopped.members)
    try:
        body = parcel.batch.body if parcel.batch else rendered(parcel.first)
    except Exception as error:  # noqa: BLE001 - whatever an email does to the serialiser stays that email's fault
        return Result(held, unsendable(error))
    asked_at = steady()
    return Result(held, _ask(client, parcel, body, sending), asked_at)


def rendered(email: Claimed) -> bytes:
    """The bytes of an email's request. Raises whatever the email does to its serialiser."""
    return wire.render(email.payload or "", email.uid, email.frozen)


def _ask(client: Client, parcel: Parcel, body: bytes, sending: Sending) -> Outcome | SentAll:
    email, batch = parcel.first, parcel.batch
    attempt = (batch.attempts if batch else email.attempts) + 1
    with span_for_ask(email.trace, queue=email.queue, uid=str(email.uid), attempt=attempt):
        if batch is None:
            answer = client.send(body, wire.key(email.uid, email.generation))
            outcome: Outcome | SentAll = classify(answer, now=datetime.now(UTC))
        else:
            answer = client.send_batch(body, batch.key)
            outcome = classify_batch(answer, len(parcel.emails), now=datetime.now(UTC))
    if isinstance(answer, Answer) and answer.status in TELLS_RATE:
        rate = named_rate(answer.headers)
        if rate is not None or not isinstance(
            outcome, Throttled
        ):  # a throttle without a figure is no "no limit"
            sending.pacer.heard(rate)
    return outcome


def _note(sending: Sending, result: Result, took: float | None) -> None:
    """Count the ask, and let a throttle or pause hold everybody back: the settler makes the pause known to all.

    `took` is the seconds that it lasted, with connecting; None where nothing was asked.
    """
    if took is None:
        return
    metrics.asks.add(1, {"outcome": type(result.outcome).__name__.lower()})
    metrics.ask_duration.record(took)
    if isinstance(result.outcome, Throttled):
        sending.brake.hold(result.outcome.after.total_seconds())
        sending.pacer.overran(result.outcome.after)
        metrics.throttled.add(1)
        return
    sending.pacer.passed()
    if isinstance(result.outcome, Ambiguous) and result.outcome.failure.code == WRONG_COUNT:
        batch = result.held.parcel.batch
        log.error(
            "the provider accepted a batch without naming all of it; asking again",
            extra={"batch": str(batch.uid) if batch else None, "answer": result.outcome.failure.message},
        )
    if isinstance(result.outcome, Paused):
        metrics.paused.add(1)
        if result.outcome.scope == "account":
            sending.brake.hold(UNTIL_PAUSED)


def unsendable(error: Exception) -> Rejected:
    """The outcome of an email that its serialiser cannot take.

    The stack is for a bug only: to format one costs twenty times the rendering, which the good ones beside it wait for.
    """
    known = isinstance(error, wire.Unsendable)
    stack = None if known else "".join(traceback.format_exception(error)[-6:])[-4000:]
    name = type(error).__name__
    return Rejected(Failure("message" if known else "bug", f"{name}: {error}"[:500], stack=stack, code=name))
