"""The settler thread: decide what follows from each outcome, and write many of them in one fenced transaction.

Guarantees: nothing is dropped. A lost connection keeps the batch, which is written again: the fence makes that safe.
A batch that fails on its data is halved until the bad outcome is alone, and that one is stored without its text. An
outcome whose lease is lost changes nothing, but an acceptance is kept as evidence.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from outboxd import metrics
from outboxd.core.outcome import Ambiguous, Failed, Failure, Paused, Rejected, Throttled, Unresolvable
from outboxd.core.retry import decide
from outboxd.db import word
from outboxd.db.lease import Settlement, settle_if_leased
from outboxd.db.policy import Policies
from outboxd.db.session import Connection, ConnectionLostError, DataError, Session, StoppedError
from outboxd.delivery.sender import Result

log = logging.getLogger(__name__)

MOST: Final = 500  # outcomes in one transaction
PACE: Final = 0.01  # seconds between the starts of two transactions, so that outcomes gather under load


@dataclass(slots=True)
class Settler:
    """The thread's parts. `inbox` takes results from any thread; `wake` tells the claimer that something went back."""

    session: Session
    policies: Policies
    give_up: threading.Event
    inbox: "queue.SimpleQueue[Result | None]"
    wake: Callable[[], None]

    def report(self, result: Result) -> None:
        """Pass on what came of one email."""
        self.inbox.put(result)

    def finish(self) -> None:
        """No result comes after this one."""
        self.inbox.put(None)


def settle_all(settler: Settler) -> None:
    """The thread: until `finish`, or until it is told to give up."""
    open_ = True
    while open_:
        started = time.monotonic()
        batch, open_ = _gather(settler.inbox)
        if not _settle_until_done(settler, batch):
            return
        if open_ and settler.inbox.empty():
            continue
        time.sleep(max(0.0, PACE - (time.monotonic() - started)))


def _gather(inbox: "queue.SimpleQueue[Result | None]") -> tuple[list[Result], bool]:
    """Wait for one result, take what else is there; False once nothing can follow."""
    batch: list[Result] = []
    item = inbox.get()
    while item is not None:
        batch.append(item)
        if len(batch) >= MOST:
            return batch, True
        try:
            item = inbox.get_nowait()
        except queue.Empty:
            return batch, True
    return batch, False


def _settle_until_done(settler: Settler, batch: Sequence[Result]) -> bool:
    """Write the batch however often the connection breaks; False where the daemon gives up first."""
    while batch:
        try:
            again = settler.session.run(lambda conn: settle(conn, settler.policies, batch))
        except ConnectionLostError:
            if settler.give_up.is_set():
                return False
        except StoppedError:
            return False
        except Exception:
            log.exception("settling failed; trying again", extra={"outcomes": len(batch)})
            if settler.give_up.wait(1.0):
                return False
        else:
            if again:
                settler.wake()
            return True
    return True


def settle(conn: Connection, policies: Policies, batch: Sequence[Result]) -> bool:
    """Decide and write; halve on bad data; keep the evidence of lost leases. Whether something went back to ready."""
    started = time.monotonic()
    settlements = [_decided(result, policies) for result in batch]
    try:
        taken = settle_if_leased(conn, settlements)
    except DataError as error:
        return _settle_in_halves(conn, policies, batch, error)
    metrics.settle_duration.record(time.monotonic() - started)
    for result, settlement in zip(batch, settlements, strict=True):
        step = taken.get((result.held.email.lease_id, result.held.email.id))
        if step is None:
            _lost(conn, result, settlement)
        else:
            _note(result, settlement, step)
    return "again" in taken.values()


def _decided(result: Result, policies: Policies) -> Settlement:
    email = result.held.email
    step = decide(
        result.outcome, email, policies.of(email.queue, email.type), now=_now(result), draw=random.random
    )
    asked_ago = None if result.asked_at is None else time.monotonic() - result.asked_at
    return Settlement(email, step, asked_ago)


def _now(result: Result) -> datetime:
    return result.held.now()


def _settle_in_halves(
    conn: Connection, policies: Policies, batch: Sequence[Result], error: DataError
) -> bool:
    if len(batch) > 1:
        middle = len(batch) // 2
        halves = [settle(conn, policies, half) for half in (batch[:middle], batch[middle:])]
        return any(halves)
    log.error("an outcome's text cannot be stored; storing it without", extra={"sqlstate": error.sqlstate})
    return settle(conn, policies, [_without_text(batch[0])])


def _without_text(result: Result) -> Result:
    match result.outcome:
        case Failed() | Ambiguous() | Throttled() | Paused() | Rejected() | Unresolvable() as told:
            failure = told.failure
            if failure.kind == "unstorable":
                raise RuntimeError("an outcome without text cannot be stored")
            bare = Failure(
                "unstorable", f"{failure.kind}: its text could not be stored", status=failure.status
            )
            return replace(result, outcome=replace(told, failure=bare))
        case silent:
            raise RuntimeError(f"{type(silent).__name__} has no text, and cannot be stored")


def _lost(conn: Connection, result: Result, settlement: Settlement) -> None:
    """The lease was reclaimed meanwhile (or this settle had been committed): use the evidence, change nothing else."""
    metrics.leases_lost.add(1)
    provider_id = settlement.step.provider_id
    if provider_id is None:
        return
    known = word.accepted(conn, result.held.email, provider_id, asked_ago=settlement.asked_ago or 0.0)
    if not known:
        log.warning("an acceptance came too late for its lease", extra={"uid": str(result.held.email.uid)})


def _note(result: Result, settlement: Settlement, step: str) -> None:
    email, failure = result.held.email, settlement.step.failure
    metrics.settled.add(1, {"step": step, "queue": email.queue})
    if step == "sent":
        metrics.due_to_accepted.record((_now(result) - email.scheduled_at).total_seconds())
    elif step in {"dead", "unknown"}:
        log.error(
            "email ended as %s",
            step,
            extra={
                "uid": str(email.uid),
                "queue": email.queue,
                "type": email.type,
                "error_class": failure.kind if failure else step,
                "error": failure.name if failure else None,
                "status": failure.status if failure else None,
                "attempts": settlement.step.attempts,
            },
        )
