"""The claimer thread: keep the hand full with what is due, sleep when nothing is.

Emails are claimed slot by slot from a watermark, because the head of the index may be a graveyard while some
transaction pins vacuum. A scan from the head finds late commits, retries and new slots: every max(0.5 s, 20 × its
cost), at most every 2 s, and before sleeping for long. Polling carries correctness; the bell only saves time.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from outboxd.core.batch import MOST
from outboxd.core.email import Claimed
from outboxd.core.fairness import Candidate, serve
from outboxd.db import batch, breaker, look, pause
from outboxd.db.fence import Fence
from outboxd.db.lease import Slot, Waiting
from outboxd.db.pause import Paused, Probe
from outboxd.db.session import Connection, ConnectionLostError, LockTimeoutError, Session, StoppedError
from outboxd.db.wake import Doorbell
from outboxd.delivery import probing
from outboxd.delivery.leasing import Leasing, hand_back_doubtful, lease_batches, lease_emails
from outboxd.delivery.recheck import recheck

log = logging.getLogger(__name__)

POLL: Final = 5.0  # seconds between two looks where the bell is armed
DEAF_POLL: Final = 0.25  # and where it is not, or where something due is locked by somebody
HEAD_EVERY: Final = (0.5, 2.0)  # seconds between two scans from the head, least and most
HEAD_COST: Final = 20  # times what the last one took
BATCH: Final = 500  # emails in one lease
SLOTS: Final = 9  # that are looked at first after a ring
SEEN: Final = 50  # slots that are remembered
URGENT: Final = 0.02  # seconds between two looks for more urgent mail while the hand is full
URGENT_COST: Final = 4  # times what the last one took, at least: it may walk over what is dead
URGENT_MOST: Final = 50  # emails of such a look
STAY: Final = 0.5  # seconds that the bell stays armed while it rings
STREAM: Final = 0.015  # seconds between two rings, below which emails do not come one by one any more
YIELD: Final = 0.003  # seconds that the senders get before the next look
OBSERVE: Final = 1.0  # seconds between two looks whether this database may send
HEALTHY, ONCE, MANY = (0, 0), (1, 1), (2, 100)  # crash streaks, least and most


@dataclass(slots=True)
class Claimer:
    """The thread's parts and what it remembers between two claims. `progress_at` feeds the watchdogs.

    `probe_soon` is set where what paused the account may have been mended; `paused` is what the last look found closed, and
    `pauses` the same for people; `fresh_next`: the last claim was of batches; `on_ill` hears of an open breaker.
    """

    session: Session
    bell: Doorbell
    leasing: Leasing
    need: float
    stop: threading.Event
    fence: Fence
    slots: list[Slot] = field(default_factory=list)
    waiting: dict[Slot, Waiting] = field(default_factory=dict)
    seen: dict[Slot, None] = field(default_factory=dict)
    turn: int = 0
    fresh_next: bool = False
    batches: list[batch.Waiting] = field(default_factory=list)
    last: list[Slot] = field(default_factory=list)
    probe: Probe | None = None
    probe_soon: threading.Event = field(default_factory=threading.Event)
    paused: Paused = frozenset()
    pauses: list[pause.Active] = field(default_factory=list)
    on_ill: Callable[[], object] = bool
    head_due: float = 0.0
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
    if not claimer.fence.admits(conn):
        claimer.bell.wait(OBSERVE)
        return
    hand_back_doubtful(claimer.leasing, conn)
    recheck(claimer.leasing, conn, claimer.need)
    if claimer.leasing.move(conn):
        claimer.head_due = 0.0
    if time.monotonic() >= claimer.head_due:
        _scan_from_head(claimer, conn)
    room = claimer.leasing.hand.room()
    if room == 0:
        started = time.monotonic()
        if not _claim_urgent(claimer, conn):
            claimer.leasing.hand.wait_for_room(max(URGENT, URGENT_COST * (time.monotonic() - started)))
    elif not _claim_suspect(claimer, conn) and not _fill(claimer, conn, room):
        rest = claimer.leasing.rest()
        if rest != 0:
            (_doze if rest else _sleep)(claimer, conn)


def _fill(claimer: Claimer, conn: Connection, room: int) -> bool:
    """Claim into the room that is there. False where nothing came.

    Batches that were asked before and fresh mail take turns: neither waits for all of the other.
    """
    most = min(room, BATCH)
    parcels = max(1, most // 100)
    if _probe(claimer, conn):
        return True
    if not claimer.fresh_next and _claim_batches(claimer, conn, parcels, HEALTHY):
        claimer.fresh_next = True
        return True
    claimer.fresh_next = False
    fresh = _claim(claimer, conn, _fair(claimer, _whole(most)), _whole(most))
    return fresh or _claim_batches(claimer, conn, parcels, HEALTHY)


def _claim_urgent(claimer: Claimer, conn: Connection) -> bool:
    """The hand is full: see whether something more urgent than its last is due, where such mail was seen before."""
    least = claimer.leasing.hand.least_urgent()
    urgent = sorted(
        (slot for slot in claimer.seen if slot.priority < least and _may_have_news(claimer, slot)),
        key=lambda slot: slot.priority,
    )[:SLOTS]
    most = min(URGENT_MOST, claimer.leasing.hand.room_before(least)) if urgent else 0
    wanted = [claimer.leasing.past_crowd(slot) for slot in urgent]
    return most > 0 and bool(lease_emails(claimer.leasing, conn, wanted, most))


def _may_have_news(claimer: Claimer, slot: Slot) -> bool:
    """Whether something may be due there: no suspects, and nothing that was closed at the last scan."""
    found = claimer.waiting.get(slot)
    if slot.lane < 0 or not claimer.leasing.may_claim(slot):
        return False
    return found is None or (not found.closed and (slot.lane == 0 or found.due_in <= 0))


def _whole(limit: int) -> int:
    """A limit that fills batches: an incomplete one costs as much of the account's pace as a full one."""
    return limit - limit % 100 if limit > 100 else limit  # noqa: PLR2004 - the size of a batch


def _scan_from_head(claimer: Claimer, conn: Connection) -> list[float]:
    """Find what has something due, and set the watermarks back; the seconds until each open slot falls due."""
    started = time.monotonic()
    account = claimer.leasing.home.account
    if claimer.probe_soon.is_set():
        _probe_now(claimer, conn)
    seen = look.around(conn, account)
    claimer.paused, claimer.pauses = seen.paused, seen.pauses
    due = [one for one in seen.waiting if one.due_in <= 0 and not one.closed]
    claimer.waiting = {one.slot(): one for one in seen.waiting}
    claimer.slots = claimer.leasing.starts(due)
    claimer.seen = dict.fromkeys([*(one.slot() for one in due), *seen.usual, *claimer.seen][:SEEN])
    claimer.batches = [one for one in seen.batches if one.due_in <= 0 and not one.closed]
    both: list[Waiting | batch.Waiting] = [*seen.waiting, *seen.batches]
    probe_in: list[float] = []
    if claimer.probe is None and any(one.closed and one.due_in <= 0 for one in both):
        probe_in = _take_probe(claimer, conn)
    least, most = HEAD_EVERY
    claimer.head_due = time.monotonic() + min(most, max(least, HEAD_COST * (time.monotonic() - started)))
    return [one.due_in for one in both if not one.closed] + probe_in + seen.ends_in


def _probe_now(claimer: Claimer, conn: Connection) -> None:
    """What paused the account may be mended: a probe is due. Where that cannot be written, the next look tries again."""
    claimer.probe_soon.clear()
    try:
        pause.probe_now(conn, claimer.leasing.home.account)
    except Exception as error:
        claimer.probe_soon.set()
        if not isinstance(error, LockTimeoutError):
            raise


def _take_probe(claimer: Claimer, conn: Connection) -> list[float]:
    """Take what probe is due, if any. While the breaker is open, its own are the only ones, but for the account's.

    Returns the seconds until the breaker's next, if it is open.
    """
    account = claimer.leasing.home.account
    if ("breaker", account) not in claimer.paused or ("account", account) in claimer.paused:
        claimer.probe = pause.take_probe(conn, account)
        return []
    claimer.on_ill()
    due_in = breaker.probe_due_in(conn, account)
    if due_in is not None and due_in <= 0:
        claimer.probe = breaker.take_probe(conn, account)
    return [] if due_in is None else [due_in]


def _fair(claimer: Claimer, limit: int) -> list[Slot]:
    """The slots of the next claim in serving order, each with the most to take of it."""
    healthy = [slot for slot in claimer.slots if slot.lane >= 0 and claimer.leasing.may_claim(slot)]
    candidates = []
    for place, slot in enumerate(healthy):
        found = claimer.waiting.get(Slot(slot.queue, slot.lane, slot.priority))
        weight, waited, most = (found.weight, -found.oldest_in, found.most) if found else (1, 0.0, None)
        candidates.append(Candidate(place, slot.priority, slot.queue, weight, waited, most))
    claimer.turn += 1
    shares = serve(candidates, limit, claimer.turn, request=MOST)
    return [replace(healthy[place], most=most) for place, most in shares]


def _probe(claimer: Claimer, conn: Connection) -> bool:
    """Use the probe that was taken, if any. False where nothing came."""
    probe, claimer.probe = claimer.probe, None
    return probe is not None and probing.claim_for(claimer.leasing, conn, probe)


def _claim_suspect(claimer: Claimer, conn: Connection) -> bool:
    """Lease one parcel that was in hand at a crash: alone, and once it crashed twice, beside no other suspect."""
    worst = [slot for slot in claimer.slots if slot.lane < -1]
    first = [slot for slot in claimer.slots if slot.lane == -1]
    streaks = [one.crash_streak for one in claimer.batches]
    in_hand = claimer.leasing.hand.suspects()
    if worst or any(streak > 1 for streak in streaks):
        return not in_hand and (
            _claim(claimer, conn, _from_head(worst), 1) or _claim_batches(claimer, conn, 1, MANY)
        )
    if any(lane < -1 for lane in in_hand) or not (first or 1 in streaks):
        return False
    return _claim(claimer, conn, _from_head(first), 1) or _claim_batches(claimer, conn, 1, ONCE)


def _from_head(slots: list[Slot]) -> list[Slot]:
    return [Slot(slot.queue, slot.lane, slot.priority) for slot in slots]


def _claim_batches(claimer: Claimer, conn: Connection, limit: int, streaks: tuple[int, int]) -> bool:
    """Stored batches that are to be asked again or to be split. False where none was due and free."""
    least, most = streaks
    if not any(least <= one.crash_streak <= most for one in claimer.batches):
        return False
    came = lease_batches(claimer.leasing, conn, limit=limit, streaks=streaks)
    if came < limit:
        claimer.batches = [one for one in claimer.batches if not least <= one.crash_streak <= most]
    return came > 0


def _claim(claimer: Claimer, conn: Connection, wanted: list[Slot], limit: int) -> bool:
    """One lease from these slots. False where nothing due was free."""
    if not wanted:
        return False
    emails = lease_emails(claimer.leasing, conn, wanted, limit)
    _advance(claimer, wanted, emails, full=len(emails) == limit)
    if emails and emails[0].lane >= 0:
        recent = {Slot(email.queue_id, email.lane, email.priority): None for email in emails}
        claimer.last = list(recent)[:SLOTS]
    return bool(emails)


def _advance(claimer: Claimer, wanted: list[Slot], emails: list[Claimed], *, full: bool) -> None:
    """Move the watermark of each slot behind what was taken; forget slots that gave nothing though there was room."""
    asked = {(slot.queue, slot.lane, slot.priority) for slot in wanted}
    last = {(e.queue_id, e.lane, e.priority): (e.scheduled_at, e.id) for e in emails}
    kept = []
    for slot in claimer.slots:
        reached = last.get((slot.queue, slot.lane, slot.priority))
        if reached is not None:
            kept.append(replace(slot, after_at=reached[0], after_id=reached[1], most=None))
        elif full or (slot.queue, slot.lane, slot.priority) not in asked:
            kept.append(slot)
    claimer.slots = kept


def _sleep(claimer: Claimer, conn: Connection) -> None:
    """Arm the bell, look once more with a plain read, and sleep until it rings or something falls due.

    While emails come one by one the bell stays armed, because arming it for each costs more than claiming it.
    """
    armed, ends = claimer.bell.arm(), time.monotonic() + STAY
    due_in: list[float] = []
    idle = False  # nothing waited at the last look, and nothing falls due or ends by itself
    try:
        while not claimer.stop.is_set():
            claimer.progress_at = time.monotonic()
            if not claimer.fence.admits(conn):
                return
            claimer.bell.hush()
            if not idle or look.anything(conn):
                due_in = _scan_from_head(claimer, conn)
                if claimer.probe is not None or claimer.batches:
                    return
                room = max(1, min(claimer.leasing.hand.room(), BATCH))
                if _claim(claimer, conn, _fair(claimer, room), room):
                    return
            quiet = armed and not (claimer.slots or claimer.leasing.doubtful) and claimer.leasing.hand.empty()
            idle = quiet and not due_in and not claimer.paused
            slept_at = time.monotonic()
            if not claimer.bell.wait(_nap(due_in, quiet=quiet)) and quiet:
                continue
            claimer.bell.hush()
            if not _claim_where(claimer, conn, claimer.last):
                claimer.head_due = 0.0
                return
            if time.monotonic() > ends or time.monotonic() - slept_at < STREAM:
                return
            claimer.bell.wait(YIELD)
    finally:
        claimer.bell.disarm()


def _doze(claimer: Claimer, conn: Connection) -> None:
    """Move a crowd, and sleep while it rests, until it rings. The look is not `_sleep`'s: that walks over what has moved."""
    claimer.bell.arm()
    ends = min(time.monotonic() + DEAF_POLL, claimer.head_due)
    try:
        if _claim_where(claimer, conn, [*claimer.last, *claimer.seen][: 2 * SLOTS]):
            return
        while (rest := claimer.leasing.rest()) is not None and (now := time.monotonic()) < ends:
            if claimer.bell.wait(min(rest, ends - now)):
                claimer.head_due = ends = 0.0
            claimer.leasing.move(conn)
    finally:
        claimer.bell.disarm()


def _claim_where(claimer: Claimer, conn: Connection, slots: list[Slot]) -> bool:
    """After the ring, look first where the last emails were: that saves a round trip. False where nothing was.

    Not in a lane that the last look found closed or empty: what waits there would only be put back, and that rings
    again. What else is due is found by the next scan from the head.
    """
    usual = [slot for slot in dict.fromkeys(slots) if slot.lane == 0 or slot in claimer.waiting]
    wanted = [claimer.leasing.past_crowd(slot) for slot in usual if _may_have_news(claimer, slot)]
    return _claim(claimer, conn, wanted, max(1, min(claimer.leasing.hand.room(), BATCH)))


def _nap(due_in: list[float], *, quiet: bool) -> float:
    """Seconds until the next look: short while something due is locked, the bell is deaf or the hand is not empty."""
    most = POLL if quiet else DEAF_POLL
    soonest = min((seconds for seconds in due_in if seconds > 0), default=most)
    return max(0.001, min(most, soonest))
