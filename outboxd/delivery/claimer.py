"""The claimer thread: keep the hand full with what is due, sleep when nothing is.

Emails are claimed slot by slot from a watermark, because the head of the index may be a graveyard while some
transaction pins vacuum. A scan from the head finds late commits, retries and new slots: every max(0.5 s, 20 × its
cost), at most every 2 s, and always before sleeping. Polling carries correctness; the bell only saves time.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from outboxd import metrics
from outboxd.core.batch import Parcel
from outboxd.core.email import Claimed, Frozen
from outboxd.core.outcome import Returned
from outboxd.db import batch, fence, lease, pause, word
from outboxd.db.lease import Slot, Waiting
from outboxd.db.pause import Paused, Probe
from outboxd.db.session import Connection, ConnectionLostError, Session, StoppedError
from outboxd.db.wake import Doorbell
from outboxd.delivery.gates import cancel, judge
from outboxd.delivery.hand import Hand, Held
from outboxd.delivery.packer import pack, repack
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
    """The thread's parts and what it remembers between two claims. `progress_at` feeds the watchdogs.

    `probe_soon` is set where what paused the account may have been mended; `paused` is for people.
    """

    session: Session
    bell: Doorbell
    hand: Hand
    settler: Settler
    worker: UUID
    home: Frozen
    ttl: timedelta
    need: float
    stop: threading.Event
    clones: fence.Fence
    slots: list[Slot] = field(default_factory=list)
    batches: list[batch.Waiting] = field(default_factory=list)
    last: list[Slot] = field(default_factory=list)
    probe: Probe | None = None
    probe_soon: threading.Event = field(default_factory=threading.Event)
    paused: Paused = frozenset()
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
    elif not claimer.clones.admits(conn):
        claimer.stop.wait(DEAF_POLL)
    elif not _claim_suspect(claimer, conn) and not _fill(claimer, conn, room):
        _sleep(claimer, conn)


def _fill(claimer: Claimer, conn: Connection, room: int) -> bool:
    """Claim into the room that is there; from the head where that is due. False where nothing came."""
    if time.monotonic() >= claimer.head_due:
        _scan_from_head(claimer, conn)
    if _probe(claimer, conn) or _claim_batches(claimer, conn, room):
        return True
    healthy = [slot for slot in claimer.slots if slot.lane >= 0]
    return bool(healthy) and _claim(claimer, conn, healthy, _whole(min(room, BATCH))) > 0


def _whole(limit: int) -> int:
    """A limit that fills batches: an incomplete one costs as much of the account's pace as a full one."""
    return limit - limit % 100 if limit > 100 else limit  # noqa: PLR2004 - the size of a batch


def _scan_from_head(claimer: Claimer, conn: Connection) -> list[float]:
    """Find what has something due, and set the watermarks back; the seconds until each open slot falls due."""
    started = time.monotonic()
    account = claimer.home.account
    if claimer.probe_soon.is_set():
        claimer.probe_soon.clear()
        pause.probe_now(conn, account)
    claimer.paused = pause.active(conn).read()
    waiting, batches = lease.slots(conn, account), batch.waiting(conn, account)
    claimer.slots = _due(waiting)
    claimer.batches = [one for one in batches if one.due_in <= 0 and not one.closed]
    both: list[Waiting | batch.Waiting] = [*waiting, *batches]
    if claimer.probe is None and any(one.closed and one.due_in <= 0 for one in both):
        claimer.probe = pause.take_probe(conn, account)
    cost = time.monotonic() - started
    least, most = HEAD_EVERY
    claimer.head_due = time.monotonic() + min(most, max(least, HEAD_COST * cost))
    return [one.due_in for one in both if not one.closed]


def _due(waiting: list[Waiting]) -> list[Slot]:
    return [
        Slot(slot.queue, slot.lane, slot.priority) for slot in waiting if slot.due_in <= 0 and not slot.closed
    ]


def _probe(claimer: Claimer, conn: Connection) -> bool:
    """One email, or one batch, in spite of a pause: to find out whether it is over."""
    probe, claimer.probe = claimer.probe, None
    if probe is None:
        return False
    lane = None if probe.kind == "account" else pause.lane(conn, probe.kind, probe.key)
    wanted = [
        Slot(slot.queue, slot.lane, slot.priority)
        for slot in lease.slots(conn, claimer.home.account)
        if slot.due_in <= 0 and slot.lane >= 0 and lane in {None, slot.lane}
    ]
    if wanted and _claim(claimer, conn, wanted, 1, probe=probe):
        return True
    return _lease_batches(claimer, conn, limit=1, lane=lane, probe=probe)


def _claim_suspect(claimer: Claimer, conn: Connection) -> bool:
    """Lease one parcel that was in hand at a crash: alone, and once it crashed twice, beside no other suspect."""
    worst = [slot for slot in claimer.slots if slot.lane < -1]
    first = [slot for slot in claimer.slots if slot.lane == -1]
    streaks = [one.crash_streak for one in claimer.batches]
    in_hand = claimer.hand.suspects()
    if worst or any(streak > 1 for streak in streaks):
        if in_hand:
            return False
        return bool(worst and _claim(claimer, conn, _from_head(worst), 1)) or _lease_batches(
            claimer, conn, limit=1, streaks=(2, 100)
        )
    if any(lane < -1 for lane in in_hand) or not (first or 1 in streaks):
        return False
    return bool(first and _claim(claimer, conn, _from_head(first), 1)) or (
        1 in streaks and _lease_batches(claimer, conn, limit=1, streaks=(1, 1))
    )


def _from_head(slots: list[Slot]) -> list[Slot]:
    return [Slot(slot.queue, slot.lane, slot.priority) for slot in slots]


def _claim_batches(claimer: Claimer, conn: Connection, room: int) -> bool:
    """Batches that are to be asked again, or to be split: before new emails, since they are older."""
    if not any(one.crash_streak == 0 for one in claimer.batches):
        return False
    return _lease_batches(claimer, conn, limit=max(1, min(room, BATCH) // 100))


def _lease_batches(
    claimer: Claimer,
    conn: Connection,
    *,
    limit: int,
    streaks: tuple[int, int] = (0, 0),
    lane: int | None = None,
    probe: Probe | None = None,
) -> bool:
    """One lease of stored batches. False where none was due and free."""
    lease_id, started = uuid4(), time.monotonic()
    claimer.doubtful.append(lease_id)
    parcels, paused = batch.claim(
        conn,
        lease_id=lease_id,
        worker=claimer.worker,
        home=claimer.home,
        ttl=claimer.ttl,
        limit=limit,
        streaks=(0, 100) if probe else streaks,
        probing=probe is not None,
        only_lane=lane,
    )
    if len(parcels) < limit:
        least, most = streaks
        claimer.batches = [one for one in claimer.batches if not least <= one.crash_streak <= most]
    metrics.claimed.add(sum(len(parcel.emails) for parcel in parcels))
    parcels = repack(conn, lease_id, parcels, claimer.home)
    claimer.doubtful.remove(lease_id)
    claimer.hand.put(_stop(claimer, parcels, started, paused, probe))
    return bool(parcels)


def _claim(
    claimer: Claimer, conn: Connection, wanted: list[Slot], limit: int, *, probe: Probe | None = None
) -> int:
    """One lease: claim, judge, put into the hand what may go and settle what may not. How many were leased."""
    lease_id, started = uuid4(), time.monotonic()
    claimer.doubtful.append(lease_id)
    claim = lease.claim(
        conn,
        wanted,
        lease_id=lease_id,
        worker=claimer.worker,
        frozen=claimer.home,
        ttl=claimer.ttl,
        limit=limit,
        probing=probe is not None,
    )
    emails = claim.emails
    metrics.claim_duration.record(time.monotonic() - started)
    metrics.claimed.add(len(emails))
    if probe is None:
        _advance(claimer, wanted, emails, full=len(emails) == limit)
    if emails and emails[0].lane >= 0:
        served = {Slot(email.queue_id, email.lane, email.priority): None for email in emails}
        claimer.last = list(served)[:SLOTS]
    go = _stop(claimer, [Parcel((email,)) for email in emails], started, claim.paused, probe)
    policies = claimer.settler.policies
    parcels = pack(
        conn, lease_id, [held.parcel.first for held in go], lambda email: policies.of(email.queue, email.type)
    )
    claimer.doubtful.remove(lease_id)
    for parcel, failure in parcels.unsendable:
        claimer.settler.report(Result(_held(claimer, parcel, started, probe), failure))
    claimer.hand.put(_held(claimer, parcel, started, probe) for parcel in parcels.ready)
    return len(emails)


def _stop(
    claimer: Claimer, parcels: Sequence[Parcel], started: float, paused: Paused, probe: Probe | None
) -> list[Held]:
    """Settle what the gates stop; what may go."""
    go = []
    for parcel in parcels:
        held = _held(claimer, parcel, started, probe)
        stopped = judge(parcel, claimer.home, paused, now=parcel.first.claimed_at, probing=probe is not None)
        if stopped is None:
            go.append(held)
        else:
            claimer.settler.report(Result(held, stopped.outcome, members=stopped.members))
    return go


def _held(claimer: Claimer, parcel: Parcel, started: float, probe: Probe | None) -> Held:
    return Held(parcel, started, started + claimer.ttl.total_seconds(), started, probe)


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
        claimer.settler.report(Result(held, Returned()))
    ids = claimer.hand.stale()
    if not ids:
        return
    asked_at = time.monotonic()
    cancelled, paused = word.since_claim(conn, ids)

    def stopped(held: Held) -> bool:
        held.parcel = cancel(held.parcel, cancelled)
        return (
            judge(held.parcel, claimer.home, paused, now=held.now(), probing=held.probe is not None)
            is not None
        )

    for held in claimer.hand.refresh(asked_at, stopped):
        verdict = judge(held.parcel, claimer.home, paused, now=held.now())
        if verdict is not None:
            claimer.settler.report(Result(held, verdict.outcome, members=verdict.members))


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
        while not claimer.stop.is_set() and claimer.clones.admits(conn):
            claimer.progress_at = time.monotonic()
            due_in = _scan_from_head(claimer, conn)
            if claimer.probe is not None or claimer.batches:
                return
            healthy = [slot for slot in claimer.slots if slot.lane >= 0]
            if healthy and _claim(claimer, conn, healthy, max(1, min(claimer.hand.room(), BATCH))):
                return
            quiet = armed and not claimer.slots and claimer.hand.empty()
            if claimer.bell.wait(_nap(due_in, quiet=quiet)) or not quiet:
                claimer.head_due = 0.0
                _claim_where_it_was(claimer, conn)
                return
    finally:
        claimer.bell.disarm()


def _claim_where_it_was(claimer: Claimer, conn: Connection) -> None:
    """After the ring, look first where the last emails were: that saves a round trip; the scan follows anyway."""
    if claimer.last:
        _claim(claimer, conn, claimer.last, max(1, min(claimer.hand.room(), BATCH)))


def _nap(due_in: list[float], *, quiet: bool) -> float:
    """Seconds until the next look: short while something due is locked, the bell is deaf or the hand is not empty."""
    most = POLL if quiet else DEAF_POLL
    soonest = min((seconds for seconds in due_in if seconds > 0), default=most)
    return max(0.001, min(most, soonest))
