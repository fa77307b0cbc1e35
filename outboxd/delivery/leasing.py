"""Leases: what one claim takes, judged, packed and put into the hand. One function per kind of thing that is due.

Whatever is leased here is in the hand, with the settler, or known as `doubtful` and handed back: nothing is forgotten
between a claim's commit and the first look at what it brought.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from outboxd import metrics
from outboxd.core.batch import Parcel, Rise, groups
from outboxd.core.email import Claimed, Frozen
from outboxd.core.outcome import Returned
from outboxd.db import batch, lease
from outboxd.db.lease import Slot, Waiting
from outboxd.db.pause import Paused, Probe
from outboxd.db.session import Connection
from outboxd.delivery.admission import Admission
from outboxd.delivery.binder import Load, held
from outboxd.delivery.exempt import Exempt
from outboxd.delivery.gates import Stopped, judge, stays
from outboxd.delivery.hand import Hand, Held
from outboxd.delivery.packer import repack
from outboxd.delivery.parking import Crowd, crowd, park
from outboxd.delivery.sender import Result
from outboxd.delivery.settler import Settler
from outboxd.delivery.steady import steady
from outboxd.delivery.turns import Turns

log = logging.getLogger(__name__)

SHUT: Final = 0.5  # seconds
NEAR: Final = 1_000_000  # ids below and above the last claim's, among which the next is looked for first


@dataclass(slots=True)
class Leasing:
    """How this daemon leases. `doubtful` are leases of which nobody here knows yet what they hold.

    `bind` takes what may share requests on to the hand; `crowds` are what most of a claim was refused for, until all of
    it is parked, one in a slot at a time; `near` are the least and the greatest id that the next claim is likely to
    bring; `shut` are lanes of which a claim got nothing but refusals, and until when (`time.monotonic`); `rise` tells
    the last failover; `stopped_probe`: the last probe came to nothing but what may not go.
    """

    hand: Hand
    settler: Settler
    admission: Admission
    worker: UUID
    home: Frozen
    ttl: timedelta
    bind: Callable[[Load], None]
    doubtful: list[UUID] = field(default_factory=list)
    crowds: list[Crowd] = field(default_factory=list)
    near: tuple[int, int] = lease.ANYWHERE
    shut: dict[int, float] = field(default_factory=dict)
    turns: Turns = field(default_factory=Turns)
    rise: Callable[[], Rise | None] = lambda: None
    exempt: Exempt = field(default_factory=Exempt)
    stopped_probe: bool = False

    def is_shut(self, lane: int) -> bool:
        """Whether a claim there would bring what is refused again: the last look may be older than the refusal."""
        return self.shut.get(lane, 0.0) > time.monotonic()

    def may_claim(self, slot: Slot) -> bool:
        """Whether something may be claimed there for the moment: not where others are looked for in a crowd."""
        looks = any(crowd.is_at(slot) and not crowd.is_open() for crowd in self.crowds)
        return not looks and not self.turns.keep_waiting(slot) and not self.is_shut(slot.lane)

    def past_crowd(self, slot: Slot) -> Slot:
        """The slot, from behind the crowd that others were pulled out of, where it is crowded."""
        crowd = next((crowd for crowd in self.crowds if crowd.is_at(slot)), None)
        return crowd.behind if crowd and crowd.behind and crowd.is_left() else slot

    def starts(self, due: Iterable[Waiting]) -> list[Slot]:
        """Where claims begin in what is due. What was put back before a crowd is not claimed there: its mover goes back."""
        firsts = [one.from_first() for one in due]
        for first in firsts:
            self.crowds = [crowd.again_from(first) if crowd.is_at(first) else crowd for crowd in self.crowds]
        return [self.past_crowd(first) for first in firsts]

    def move(self, conn: Connection) -> bool:
        """The next step of what is being moved into lanes, where it is due; True where a lane may have got something."""
        out = False
        crowd = min(self.crowds, key=lambda crowd: crowd.due, default=None)
        if crowd is not None and crowd.due <= time.monotonic():
            found = park(conn, crowd)
            self.crowds.remove(crowd)
            self.crowds += [found] if found else []
            out = not crowd.is_open() and (found is None or found.is_open())
        pulled = self.exempt.pull(conn)
        return self.turns.part(conn) or pulled or out

    def rest(self) -> float | None:
        """Seconds until the next step is due; None where nothing is being moved."""
        if self.turns.crowded is not None:
            return 0.0
        due = [crowd.due for crowd in self.crowds]
        if (next_look := self.exempt.due()) is not None:
            due.append(next_look)
        return max(0.0, min(due) - time.monotonic()) if due else None


def lease_emails(
    leasing: Leasing, conn: Connection, wanted: Sequence[Slot], limit: int, *, probe: Probe | None = None
) -> list[Claimed]:
    """Claim from the slots: what may go is in the hand, alone or in batches, what may not is settled."""
    lease_id, started = uuid4(), steady()
    leasing.doubtful.append(lease_id)
    claim = lease.claim(
        conn,
        wanted,
        lease_id=lease_id,
        worker=leasing.worker,
        frozen=leasing.home,
        ttl=leasing.ttl,
        limit=limit,
        near=leasing.near,
        probe=probe,
    )
    if claim.emails:
        ids = [email.id for email in claim.emails]
        leasing.near = (min(ids) - NEAR, max(ids) + NEAR)
    metrics.claim_duration.record(steady() - started)
    metrics.claimed.add(len(claim.emails))
    leasing.turns.saw(claim.emails)
    parcels = [Parcel((email,)) for email in claim.emails]
    if probe is None:
        allowed = _stop(leasing, parcels, started, claim.paused, None)
        go = _admitted(leasing, conn, lease_id, allowed, started, None)
        _shut(leasing, parcels, go)
    else:
        go = _first(leasing, conn, lease_id, parcels, started, claim.paused, probe)
    policies = leasing.admission.policies
    together = groups(
        [parcel.first for parcel in go], lambda email: policies.of(email.queue, email.type), leasing.rise()
    )
    leasing.doubtful.remove(lease_id)
    if any(len(group) > 1 for group in together):
        leasing.bind(Load(lease_id, together, started, probe))
    else:
        leasing.hand.put(_held(leasing, parcel, started, probe) for parcel in go)
    return claim.emails


def lease_batches(
    leasing: Leasing,
    conn: Connection,
    *,
    limit: int,
    streaks: tuple[int, int] = (0, 0),
    lane: int | None = None,
    probe: Probe | None = None,
) -> int:
    """Claim stored batches that are due, whole; `streaks` bounds their crash streak. How many came."""
    lease_id, started = uuid4(), steady()
    leasing.doubtful.append(lease_id)
    parcels, paused = batch.claim(
        conn,
        lease_id=lease_id,
        worker=leasing.worker,
        home=leasing.home,
        ttl=leasing.ttl,
        limit=limit,
        streaks=(0, 100) if probe else streaks,
        probe=probe,
        only_lane=lane,
    )
    metrics.claimed.add(sum(len(parcel.emails) for parcel in parcels))
    # Before they are split: who is wanted no more gets into no new request.
    allowed = _stop(leasing, parcels, started, paused, probe)
    ready = repack(conn, lease_id, allowed, leasing.home)
    while probe and len(ready) > 1:  # parts of a rejected batch; a probe is one request
        leasing.settler.report(Result(_held(leasing, ready.pop(), started, None), Returned()))
    go = _admitted(leasing, conn, lease_id, ready, started, probe)
    leasing.doubtful.remove(lease_id)
    leasing.hand.put(_held(leasing, parcel, started, probe) for parcel in go)
    return len(parcels)


def hand_back_doubtful(leasing: Leasing, conn: Connection) -> None:
    """Undo claims whose COMMIT got no answer: nobody here knows what they leased."""
    while leasing.doubtful:
        returned = lease.hand_back(conn, leasing.doubtful[0])
        log.warning("a claim's answer was lost; handed back", extra={"emails": returned})
        leasing.doubtful.pop(0)


def _stop(
    leasing: Leasing, parcels: Sequence[Parcel], started: float, paused: Paused, probe: Probe | None
) -> list[Parcel]:
    """Settle what the gates stop; what may go."""
    go, held = _judged(leasing, parcels, paused, probe)
    _put_back(leasing, held, len(parcels), started, probe)
    return go


def _judged(
    leasing: Leasing, parcels: Iterable[Parcel], paused: Paused, probe: Probe | None
) -> tuple[list[Parcel], list[tuple[Parcel, Stopped]]]:
    """What may go, and what the gates stop that need no more than the claim."""
    go, held = [], []
    for parcel in parcels:
        stopped = judge(
            parcel,
            leasing.home,
            paused,
            now=parcel.first.claimed_at,
            provider_of=leasing.admission.provider_of,
            probe=probe,
        )
        if stopped is None:
            go.append(parcel)
        else:
            held.append((parcel, stopped))
    return go, held


def _admitted(
    leasing: Leasing,
    conn: Connection,
    lease_id: UUID,
    parcels: Sequence[Parcel],
    started: float,
    probe: Probe | None,
) -> list[Parcel]:
    """Settle what limits hold; what may go, with what was granted to it."""
    if not parcels:
        return []
    go, limited = leasing.admission.admit(conn, lease_id, parcels)
    _put_back(leasing, limited, len(parcels), started, probe)
    return go


def _first(
    leasing: Leasing,
    conn: Connection,
    lease_id: UUID,
    parcels: Sequence[Parcel],
    started: float,
    paused: Paused,
    probe: Probe,
) -> list[Parcel]:
    """Of what was claimed for a probe the first that may go, since a probe is one request.

    What stands before it is settled, what stands behind it waits on. Limits are asked for one after the other: shares that
    the others took would hold up more than them.
    """
    go: list[Parcel] = []
    refused: list[tuple[Parcel, Stopped]] = []
    waiting = list(parcels)
    while waiting and not go:
        allowed, stopped = _judged(leasing, [waiting.pop(0)], paused, probe)
        go, limited = leasing.admission.admit(conn, lease_id, allowed) if allowed else ([], [])
        refused += stopped + limited
    _put_back(leasing, refused, len(parcels), started, None if go else probe)
    for parcel in waiting:
        leasing.settler.report(Result(_held(leasing, parcel, started, None), Returned()))
    leasing.stopped_probe = bool(parcels) and not go
    return go


def _shut(leasing: Leasing, parcels: Sequence[Parcel], go: Sequence[Parcel]) -> None:
    """Remember the lanes of which nothing may go now. Not for long: it may be opened, and the next look tells."""
    refused = {parcel.lane for parcel in parcels if parcel.lane > 0} - {parcel.lane for parcel in go}
    now = time.monotonic()
    leasing.shut = {lane: until for lane, until in leasing.shut.items() if until > now}
    leasing.shut |= dict.fromkeys(refused, now + SHUT)


def _put_back(
    leasing: Leasing,
    refused: Sequence[tuple[Parcel, Stopped]],
    of: int,
    started: float,
    probe: Probe | None,
) -> None:
    """Settle these, of so many parcels, and see whether they are a crowd. The last gives the probe back, if they had one."""
    found = crowd(refused, of, provider_of=leasing.admission.provider_of)
    if found is not None and not any(known.is_at(found.slot) for known in leasing.crowds):
        leasing.crowds.append(found)
    leasing.exempt.saw(refused, leasing.admission.policies.limits)
    if probe is not None:
        refused = sorted(refused, key=lambda one: not stays(one[1].outcome, one[1].members))
    for place, (parcel, stopped) in enumerate(refused, start=1):
        stopped_one = _held(leasing, parcel, started, probe if place == len(refused) else None)
        leasing.settler.report(Result(stopped_one, stopped.outcome, members=stopped.members))


def _held(leasing: Leasing, parcel: Parcel, started: float, probe: Probe | None) -> Held:
    return held(parcel, started, leasing.ttl.total_seconds(), probe)
