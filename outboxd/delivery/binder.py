"""The binder thread: bind what a claim brought into stored batches, while the claimer already fetches more.

Rendering and storing take longer than the claim itself, so that one thread for both would halve the throughput.
Claims in which nothing may share a request do not pass here. What cannot be bound is never forgotten: it is with the
settler, or its lease is known as doubtful and handed back.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from outboxd.core.batch import Parcel
from outboxd.core.email import Claimed
from outboxd.core.outcome import Outcome, Returned
from outboxd.db.pause import Probe
from outboxd.db.session import Connection, ConnectionLostError, Session, StoppedError
from outboxd.delivery.hand import Hand, Held
from outboxd.delivery.packer import pack
from outboxd.delivery.sender import Result

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """What one claim brought and its gates let pass, in groups that may share a request; `started` is its instant, by `steady`."""

    lease_id: UUID
    groups: Sequence[Sequence[Claimed]]
    started: float
    probe: Probe | None = None

    def emails(self) -> int:
        """How many emails that are."""
        return sum(len(group) for group in self.groups)


@dataclass(slots=True)
class Binder:
    """The thread's parts. `doubtful` hears of leases of which nobody here knows any more what they hold.

    `wake` is for the claimer, who hands them back.
    """

    session: Session
    hand: Hand
    report: Callable[[Result], None]
    doubtful: Callable[[UUID], None]
    ttl: float
    stop: threading.Event
    wake: Callable[[], object] = bool
    _inbox: "queue.SimpleQueue[Load | None]" = field(default_factory=queue.SimpleQueue)

    def take(self, load: Load) -> None:
        """Bind these emails and put them into the hand; soon, and in the order of the calls."""
        self.hand.expect(load.emails())
        self._inbox.put(load)

    def finish(self) -> None:
        """Nothing comes after this."""
        self._inbox.put(None)


def bind_all(binder: Binder) -> None:
    """The thread: until `finish`."""
    while (load := binder._inbox.get()) is not None:  # noqa: SLF001 - the inbox is this thread's
        try:
            _bind_or_return(binder, load)
        finally:
            binder.hand.expect(-load.emails())


def _bind_or_return(binder: Binder, load: Load) -> None:
    if binder.stop.is_set():
        _return(binder, load)
        return
    try:
        binder.session.run(lambda conn: bind(binder, conn, load))
    except StoppedError:
        _return(binder, load)
    except ConnectionLostError:
        log.warning("binder lost its connection")
        _doubt(binder, load)
    except Exception:
        log.exception("binding failed; handed back", extra={"emails": load.emails()})
        binder.session.close()
        _doubt(binder, load)


def bind(binder: Binder, conn: Connection, load: Load) -> None:
    """Render, store, and put what may be asked into the hand; settle what cannot be rendered."""
    packed = pack(conn, load.lease_id, load.groups)
    binder.hand.put(held(parcel, load.started, binder.ttl, load.probe) for parcel in packed.ready)
    for parcel, outcome in packed.unsendable:
        _report(binder, load, parcel, outcome)


def held(parcel: Parcel, started: float, ttl: float, probe: Probe | None) -> Held:
    """A parcel of a claim that began at `started`, whose lease lasts `ttl` seconds."""
    return Held(parcel, started, started + ttl, started, probe)


def _doubt(binder: Binder, load: Load) -> None:
    binder.doubtful(load.lease_id)
    binder.wake()


def _return(binder: Binder, load: Load) -> None:
    for group in load.groups:
        for email in group:
            _report(binder, load, Parcel((email,)), Returned())


def _report(binder: Binder, load: Load, parcel: Parcel, outcome: Outcome) -> None:
    binder.report(Result(held(parcel, load.started, binder.ttl, load.probe), outcome))
