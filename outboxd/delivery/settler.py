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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from outboxd import metrics
from outboxd.core.batch import decide_together
from outboxd.core.outcome import (
    Ambiguous,
    Failed,
    Failure,
    Limited,
    Paused,
    Rejected,
    Sent,
    SentAll,
    Throttled,
    Unresolvable,
)
from outboxd.core.retry import Step, decide, decide_probe
from outboxd.db import hold, word
from outboxd.db.lease import Settlement, settle_if_leased
from outboxd.db.policy import Policies
from outboxd.db.session import (
    Connection,
    ConnectionLostError,
    DataError,
    LockTimeoutError,
    Session,
    StoppedError,
)
from outboxd.delivery.admission import Admission
from outboxd.delivery.breakers import Breakers
from outboxd.delivery.pauses import Park, Pauses
from outboxd.delivery.sender import Result
from outboxd.delivery.steady import steady

log = logging.getLogger(__name__)

MOST: Final = 500  # emails in one transaction, the last parcel's not counted
PACE: Final = 0.01  # seconds between the starts of two transactions, so that outcomes gather under load
LINGER: Final = 0.01  # seconds that what nobody was asked for waits for its claim's good mail to go first


@dataclass(slots=True)
class Settler:
    """The thread's parts. `inbox` takes results from any thread; `wake` tells the claimer that something went back."""

    session: Session
    policies: Policies
    admission: Admission
    pauses: Pauses
    breakers: Breakers
    give_up: threading.Event
    inbox: "queue.SimpleQueue[Result | None]"
    wake: Callable[[], None]

    def report(self, result: Result) -> None:
        """Pass on what came of one parcel."""
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
    """Wait for one result, take what else is there; False once nothing can follow.

    Where nobody was asked for any of it, wait for more: to settle it now would slow down the asks of its own claim.
    """
    batch: list[Result] = []
    emails = 0
    item = inbox.get()
    ends = time.monotonic() + LINGER
    while item is not None:
        batch.append(item)
        emails += len(item.held.parcel.emails)
        if emails >= MOST:
            return batch, True
        if item.asked_at is not None:
            ends = 0.0
        try:
            item = inbox.get(timeout=max(0.0, ends - time.monotonic()))
        except queue.Empty:
            return batch, True
    return batch, False


def _settle_until_done(settler: Settler, batch: Sequence[Result]) -> bool:
    """Write the batch however often the connection breaks; False where the daemon gives up first."""
    while batch:
        try:
            again = settler.session.run(lambda conn: settle(settler, conn, batch))
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
            _tell(settler, batch)
            if again:
                settler.wake()
            return True
    return True


def _tell(settler: Settler, batch: Sequence[Result]) -> None:
    """What the answers say of the provider.

    Lost with the connection, or while somebody's transaction holds the breaker, the next failures or the next probe say it.
    """
    try:
        settler.session.run(lambda conn: settler.breakers.heard(conn, batch))
    except (ConnectionLostError, LockTimeoutError, StoppedError):
        log.warning("the breaker did not hear of some answers")
    except Exception:
        log.exception("telling the breaker failed", extra={"outcomes": len(batch)})


def settle(settler: Settler, conn: Connection, batch: Sequence[Result]) -> bool:
    """Decide and write; halve on bad data; keep the evidence of lost leases. Whether something went back, or a probe."""
    went_back = _settle_heard(settler, conn, settler.pauses.heard(conn, batch))
    return settler.pauses.release(conn, batch) or went_back


def _settle_heard(settler: Settler, conn: Connection, results: Sequence[Result]) -> bool:
    started = time.monotonic()
    patient = settler.breakers.forgiving(conn, results)
    decided = [_decided(result, settler.policies) for result in patient]
    lanes = settler.pauses.lanes(conn, [step for steps in decided for step in steps])
    settlements = [
        settlement
        for result, steps in zip(results, decided, strict=True)
        for settlement in _settlements(result, steps, lanes)
    ]
    try:
        taken = settle_if_leased(conn, settlements)
    except DataError as error:
        return _settle_in_halves(settler, conn, results, error)
    metrics.settle_duration.record(time.monotonic() - started)
    lost: list[Settlement] = []
    now = results[0].held.now()
    for settlement in settlements:
        step = taken.get((settlement.email.lease_id, settlement.email.id))
        if step is None:
            lost.append(settlement)
        else:
            _note(settlement, step, now)
    _by_itself(settler, conn, lambda: _note_held(conn, results))
    unused = [result for result in results if _unused(result, taken)]
    for by in dict.fromkeys(_limit(one) for one in unused if _has_shares(one)):
        parcels = [one.held.parcel for one in unused if _limit(one) == by and _has_shares(one)]
        _by_itself(settler, conn, partial(settler.admission.give_back, conn, parcels, refused_by=by))
    _lost(conn, lost)
    return not {"again", "kept"}.isdisjoint(taken.values())


def _by_itself(settler: Settler, conn: Connection, work: Callable[[], None]) -> None:
    """Do what follows the commit. An error goes no further: written again, what is settled would count as lost."""
    if conn.closed:
        return
    try:
        work()
    except Exception as error:
        if settler.session.close_if_lost(error):
            log.warning("what follows a settle was lost with the connection")
        else:
            log.exception("what follows a settle failed")


def _note_held(conn: Connection, results: Sequence[Result]) -> None:
    """What failed before is not given up for the time that limits hold it; lost with the connection, it counts."""
    held = [
        one
        for result in results
        if (result.held.parcel.batch or result.held.parcel.first).first_failed_at
        for one in _held_by_limits(result)
    ]
    if held:
        hold.lengthen(conn, held)


def _held_by_limits(result: Result) -> Iterator[hold.Held]:
    """A batch once, or each of its members where it was taken apart."""
    parcel = result.held.parcel
    if result.members:
        for email, outcome in zip(parcel.emails, result.members, strict=True):
            if isinstance(outcome, Limited):
                yield hold.Held(email.id, outcome.free_at)
    elif isinstance(result.outcome, Limited):
        yield hold.Held(parcel.first.id, result.outcome.free_at, parcel.batch.uid if parcel.batch else None)


def _limit(result: Result) -> tuple[str, str] | None:
    """The kind and key of the limit that holds it whole."""
    outcome = result.outcome
    return (outcome.kind, outcome.key) if isinstance(outcome, Limited) and not result.members else None


def _has_shares(result: Result) -> bool:
    return any(email.grant.at is not None for email in result.held.parcel.emails)


def _unused(result: Result, taken: Mapping[tuple[UUID, int], str]) -> bool:
    """Whether no more than a no is known of this ask: what limits granted for it is somebody else's.

    Once only, by the write that took it: written again after a lost connection, it is taken no more.
    """
    if isinstance(result.outcome, Sent | SentAll | Ambiguous | Unresolvable):
        return False
    return all((email.lease_id, email.id) in taken for email in result.held.parcel.emails)


def _decided(result: Result, policies: Policies) -> list[Step]:
    """One step per email of the parcel."""
    parcel, now = result.held.parcel, result.held.now()
    policy = policies.of(parcel.first.queue, parcel.first.type)
    if result.members:
        return [
            decide(outcome, email, policy, now=now, draw=random.random)
            for outcome, email in zip(result.members, parcel.emails, strict=True)
        ]
    probing = result.held.probe is not None
    if parcel.batch is not None:
        asked_at = None if result.asked_at is None else now - timedelta(seconds=_ago(result))
        return decide_together(
            result.outcome, parcel, policy, now=now, asked_at=asked_at, draw=random.random, probing=probing
        )
    assert not isinstance(result.outcome, SentAll)
    decide_one = decide_probe if probing else decide
    return [decide_one(result.outcome, parcel.first, policy, now=now, draw=random.random)]


def _settlements(result: Result, steps: Sequence[Step], lanes: Mapping[Park, int]) -> Iterator[Settlement]:
    parcel = result.held.parcel
    for place, (email, step) in enumerate(zip(parcel.emails, steps, strict=True)):
        yield Settlement(
            email,
            step,
            None if result.asked_at is None else _ago(result),
            lane=email.lane if step.park is None else lanes.get(step.park, email.lane),
            batch=parcel.batch,
            leads=place == 0,
            undecided=isinstance(result.outcome, Ambiguous),
        )


def _ago(result: Result) -> float:
    assert result.asked_at is not None
    return steady() - result.asked_at


def _settle_in_halves(settler: Settler, conn: Connection, batch: Sequence[Result], error: DataError) -> bool:
    if len(batch) > 1:
        middle = len(batch) // 2
        halves = [_settle_heard(settler, conn, half) for half in (batch[:middle], batch[middle:])]
        return any(halves)
    log.error("an outcome's text cannot be stored; storing it without", extra={"sqlstate": error.sqlstate})
    return _settle_heard(settler, conn, [_without_text(batch[0])])


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


def _lost(conn: Connection, settlements: Sequence[Settlement]) -> None:
    """Leases that were reclaimed meanwhile (or whose settle had been committed): use the evidence, change no more."""
    metrics.leases_lost.add(len(settlements))
    late = [settlement for settlement in settlements if settlement.step.provider_id is not None]
    if not late:
        return
    for email in word.accepted(conn, late):
        log.warning("an acceptance came too late for its lease", extra={"uid": str(email.uid)})


def _note(settlement: Settlement, step: str, now: datetime) -> None:
    email, taken = settlement.email, settlement.step
    metrics.settled.add(1, {"step": step, "queue": email.queue})
    if step == "sent":
        metrics.due_to_accepted.record((now - email.scheduled_at).total_seconds())
    elif step in {"dead", "unknown"}:
        log.error("email ended as %s", step, extra=_told(settlement, step))
    elif taken.failure and settlement.leads and not taken.transient and (settlement.batch or email).transient:
        log.error("refused in words that we do not know; asking again", extra=_told(settlement, step))


def _told(settlement: Settlement, step: str) -> dict[str, object]:
    email, failure = settlement.email, settlement.step.failure
    return {
        "uid": str(email.uid),
        "queue": email.queue,
        "type": email.type,
        "error_class": failure.kind if failure else step,
        "error": failure.name if failure else None,
        "status": failure.status if failure else None,
        "attempts": settlement.step.attempts,
    }
