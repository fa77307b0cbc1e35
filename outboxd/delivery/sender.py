"""A sender thread: take an email from the hand, ask the provider once, pass the outcome on.

No transaction is open here and nothing is written. Before each ask: is it still wanted, is there time left in its
lease, does the provider allow requests. What cannot be asked is passed on as an outcome like any other.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from outboxd import metrics
from outboxd.core import wire
from outboxd.core.outcome import Failure, Outcome, Paused, Rejected, Returned, Throttled
from outboxd.delivery.brake import Brake
from outboxd.delivery.gates import held_by
from outboxd.delivery.hand import Hand, Held
from outboxd.delivery.slowstart import SlowStart
from outboxd.resend.classify import classify
from outboxd.resend.client import Client
from outboxd.telemetry import span_for_ask

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome for the settler; `asked_at` is `time.monotonic` seconds, None where nothing was asked."""

    held: Held
    outcome: Outcome
    asked_at: float | None


@dataclass(frozen=True, slots=True)
class Sending:
    """What every sender thread shares. `need` is the seconds that a lease must still last for an ask to begin."""

    hand: Hand
    brake: Brake
    report: Callable[[Result], None]
    stop: threading.Event
    need: float
    slow: SlowStart


def send_all(sending: Sending, client: Client) -> None:
    """The thread: until the hand is closed."""
    while (held := _next(sending)) is not None:
        result = send_one(client, held, need=sending.need)
        sending.slow.leave(result.outcome)
        _note(sending, result)
        sending.report(result)
        asked_for = None if result.asked_at is None else time.monotonic() - result.asked_at
        sending.hand.done(held, asked_for)
    client.close()


def _next(sending: Sending) -> Held | None:
    """The next email, once the provider allows requests; a brake that falls meanwhile puts it back."""
    if not sending.slow.enter(sending.stop):
        return None
    while True:
        sending.stop.wait(sending.brake.rest())
        held = sending.hand.take()
        if held is None or sending.brake.rest() == 0:
            return held
        if not sending.hand.put_back(held):
            sending.report(Result(held, Returned(), None))
            return None


def send_one(client: Client, held: Held, *, need: float) -> Result:
    """One email: check it, ask for it, say what came of it."""
    if held.lease_ends - time.monotonic() < need:
        return Result(held, Returned(), None)
    if (verdict := held_by(held.email, now=held.now())) is not None:
        return Result(held, verdict, None)
    try:
        body = wire.render(held.email.payload or "", held.email.uid, held.email.frozen)
    except Exception as error:  # noqa: BLE001 - whatever an email does to the serialiser stays that email's fault
        return Result(held, _unsendable(error), None)
    asked_at = time.monotonic()
    return Result(held, _ask(client, held, body), asked_at)


def _ask(client: Client, held: Held, body: bytes) -> Outcome:
    email = held.email
    with span_for_ask(email.trace, queue=email.queue, uid=str(email.uid), attempt=email.attempts + 1):
        answer = client.send(body, wire.key(email.uid, email.generation))
    return classify(answer, now=datetime.now(UTC))


def _note(sending: Sending, result: Result) -> None:
    """Count the ask, and let a throttle or pause hold everybody back."""
    if result.asked_at is None:
        return
    metrics.asks.add(1, {"outcome": type(result.outcome).__name__.lower()})
    metrics.ask_duration.record(time.monotonic() - result.asked_at)
    if isinstance(result.outcome, Throttled):
        sending.brake.hold(result.outcome.after.total_seconds())
        metrics.throttled.add(1)
    elif isinstance(result.outcome, Paused):
        metrics.paused.add(1)
        failure = result.outcome.failure
        log.error(
            "the provider refuses this account or domain; trying again in a minute",
            extra={"uid": str(result.held.email.uid), "error": failure.name, "status": failure.status},
        )


def _unsendable(error: Exception) -> Rejected:
    kind = "message" if isinstance(error, wire.Unsendable) else "bug"
    stack = "".join(traceback.format_exception(error)[-6:])[-4000:]
    return Rejected(Failure(kind, f"{type(error).__name__}: {error}"[:500], stack=stack))
