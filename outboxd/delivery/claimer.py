"""The claimer thread: keep the hand full with what is due, sleep when nothing is.

Emails are claimed slot by slot from a watermark, because the head of the index may be a graveyard while some
transaction pins vacuum. A scan from the head finds late commits, retries and new slots: every max(0.5 s, 20 × its
cost), at most every 2 s, and always before sleeping. Polling carries correctness; the bell only saves time.
"""

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from outboxd import metrics
from outboxd.core.email import Claimed, Frozen
from outboxd.core.outcome import Cancelled, Returned
from outboxd.db import lease, word
from outboxd.db.fence import Fence
from outboxd.db.lease import Slot, Waiting
from outboxd.db.session import Connection, ConnectionLostError, Session, StoppedError
from outboxd.db.wake import Doorbell
from outboxd.delivery.gates import judge
from outboxd.delivery.hand import Hand, Held
from outboxd.delivery.sender import Result
from outboxd.delivery.settler import Settler

log = logging.getLogger(__name__)

POLL: Final = 5.0  # seconds between two looks where the bell is armed
DEAF_POLL: Final = 0.25  # and where it is not, or where something due is locked by somebody
HEAD_EVERY: Final = (0.5, 2.0)  # seconds between two scans from the head, least and most
HEAD_COST: Final = 20  # times what the last one took
BATCH: Final = 500  # emails in one lease
SLOTS: Final = 9  # that are looked at first after a ring


@dataclass(slots=True)
class Claimer:
    """The thread's parts and what it remembers between two claims. `progress_at` feeds the watchdogs."""

    session: Session
    bell: Doorbell
    hand: Hand
    settler: Settler
    worker: UUID
    home: Frozen
    ttl: timedelta
    need: float
    stop: threading.Event
    fence: Fence
    slots: list[Slot] = field(default_factory=list)
    last: list[Slot] = field(default_factory=list)
    head_due: float = 0.0
    doubtful: list[UUID] = field(default_factory=list)
    progress_at: float = field(default_factory=time.monotonic)


def claim_all(claimer: Claimer) -> None:
    """The thread: until the daemon stops."""
    while not claimer.stop.is_set():
        try:
            claimer.session.run(lambda conn: claim_round(claimer, conn))
        except ConnectionLostError:
            log.warning("claimer lost its connection")
        except StoppedError:
            return
        except Exception:
            log.exception("claiming failed; trying again")
            claimer.session.close()
            claimer.stop.wait(1.0)


def claim_round(claimer: Claimer, conn: Connection) -> None:
    """Look after what is in hand, fill it up, and sleep if there was nothing."""
    claimer.progress_at = time.monotonic()
    _hand_back_doubtful(claimer, conn)
    _recheck(claimer, conn)
    room = claimer.hand.room()
    if room == 0:
        claimer.hand.wait_for_room(0.25)
    elif not _claim_suspect(claimer, conn) and not _fill(claimer, conn, room):
        _sleep(claimer, conn)


def _fill(claimer: Claimer, conn: Connection, room: int) -> bool:
    """Claim into the room that is there; from the head where that is due. False where nothing came."""
    if time.monotonic() >= claimer.head_due:
        _scan_from_head(claimer, conn)
    healthy = [slot for slot in claimer.slots if slot.lane >= 0]
    return bool(healthy) and _claim(claimer, conn, healthy, min(room, BATCH)) > 0


def _scan_from_head(claimer: Claimer, conn: Connection) -> None:
    """Find the slots that have something due, and set their watermarks back."""
    started = time.monotonic()
    claimer.slots = _due(lease.slots(conn))
    cost = time.monotonic() - started
    least, most = HEAD_EVERY
    claimer.head_due = time.monotonic() + min(most, max(least, HEAD_COST * cost))


def _due(waiting: list[Waiting]) -> list[Slot]:
    return [Slot(slot.queue, slot.lane, slot.priority) for slot in waiting if slot.due_in <= 0]


def _claim_suspect(claimer: Claimer, conn: Connection) -> bool:
    """Lease one email that was in hand at a crash: alone, and once it crashed twice, beside no other suspect."""
    worst = [slot for slot in claimer.slots if slot.lane < -1]
    first = [slot for slot in claimer.slots if slot.lane == -1]
    in_hand = claimer.hand.suspects()
    if worst:
        return not in_hand and _claim(claimer, conn, _from_head(worst), 1) > 0
    if first and all(lane == -1 for lane in in_hand):
        return _claim(claimer, conn, _from_head(first), 1) > 0
    return False


def _from_head(slots: list[Slot]) -> list[Slot]:
    return [Slot(slot.queue, slot.lane, slot.priority) for slot in slots]


def _claim(claimer: Claimer, conn: Connection, wanted: list[Slot], limit: int) -> int:
    """One lease: claim, judge, put into the hand what may go and settle what may not. How many were leased."""
    if not claimer.fence.admits(conn):
        return 0
    lease_id, started = uuid4(), time.monotonic()
    claimer.doubtful.append(lease_id)
    emails = lease.claim(
        conn,
        wanted,
        lease_id=lease_id,
        worker=claimer.worker,
        frozen=claimer.home,
        ttl=claimer.ttl,
        limit=limit,
    )
    claimer.doubtful.remove(lease_id)
    metrics.claim_duration.record(time.monotonic() - started)
    metrics.claimed.add(len(emails))
    _advance(claimer, wanted, emails, full=len(emails) == limit)
    if emails and emails[0].lane >= 0:
        claimer.last = list({Slot(email.queue_id, email.lane, email.priority): None for email in emails})[
            :SLOTS
        ]
    go, stopped = judge(emails, claimer.home)
    for email, outcome in stopped:
        claimer.settler.report(Result(_held(claimer, email, started), outcome, None))
    claimer.hand.put(_held(claimer, email, started) for email in go)
    return len(emails)


def _held(claimer: Claimer, email: Claimed, started: float) -> Held:
    return Held(email, started, started + claimer.ttl.total_seconds(), started)


def _advance(claimer: Claimer, wanted: list[Slot], emails: list[Claimed], *, full: bool) -> None:
    """Move the watermark of each slot behind what was taken; forget slots that gave nothing though there was room."""
    asked = {(slot.queue, slot.lane, slot.priority) for slot in wanted}
    last = {(e.queue_id, e.lane, e.priority): (e.scheduled_at, e.id) for e in emails}
    kept = []
    for slot in claimer.slots:
        reached = last.get((slot.queue, slot.lane, slot.priority))
        if reached is not None:
            kept.append(replace(slot, after_at=reached[0], after_id=reached[1]))
        elif full or (slot.queue, slot.lane, slot.priority) not in asked:
            kept.append(slot)
    claimer.slots = kept


def _recheck(claimer: Claimer, conn: Connection) -> None:
    """Ask the gates again about all in hand where their answer gets old; return what its lease can't wait for."""
    for held in claimer.hand.remove_short(claimer.need):
        claimer.settler.report(Result(held, Returned(), None))
    ids = claimer.hand.stale()
    if ids:
        asked_at = time.monotonic()
        for held in claimer.hand.refresh(asked_at, word.cancelled(conn, ids)):
            claimer.settler.report(Result(held, Cancelled(), None))


def _hand_back_doubtful(claimer: Claimer, conn: Connection) -> None:
    """Undo claims whose COMMIT got no answer: nobody here knows what they leased."""
    while claimer.doubtful:
        returned = lease.hand_back(conn, claimer.doubtful[0])
        log.warning("a claim's answer was lost; handed back", extra={"emails": returned})
        claimer.doubtful.pop(0)


def _sleep(claimer: Claimer, conn: Connection) -> None:
    """Arm the bell, look once more with a plain read, and sleep until it rings or something falls due."""
    armed = claimer.bell.arm()
    try:
        while not claimer.stop.is_set():
            claimer.progress_at = time.monotonic()
            waiting = lease.slots(conn) if claimer.fence.admits(conn) else []
            claimer.slots = _due(waiting)
            claimer.head_due = time.monotonic() + HEAD_EVERY[0]
            healthy = [slot for slot in claimer.slots if slot.lane >= 0]
            if healthy and _claim(claimer, conn, healthy, max(1, min(claimer.hand.room(), BATCH))):
                return
            quiet = armed and not claimer.slots and claimer.hand.empty()
            if claimer.bell.wait(_nap(waiting, quiet=quiet)) or not quiet:
                claimer.head_due = 0.0
                _claim_where_it_was(claimer, conn)
                return
    finally:
        claimer.bell.disarm()


def _claim_where_it_was(claimer: Claimer, conn: Connection) -> None:
    """After the ring, look first where the last emails were: that saves a round trip; the scan follows anyway."""
    if claimer.last:
        _claim(claimer, conn, claimer.last, max(1, min(claimer.hand.room(), BATCH)))


def _nap(waiting: list[Waiting], *, quiet: bool) -> float:
    """Seconds until the next look: short while something due is locked, the bell is deaf or the hand is not empty."""
    most = POLL if quiet else DEAF_POLL
    soonest = min((slot.due_in for slot in waiting if slot.due_in > 0), default=most)
    return max(0.001, min(most, soonest))
