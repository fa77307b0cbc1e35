"""What the record of moves must show: each email in one place, moved only as it may, and only by whom holds it. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .history import BURIED, ENDS, History, Move, Violation

TOLERANCE = 0.05  # seconds between reading the clock and writing the move
OPERATOR = "outboxd adopt"
NOTED = 2.0  # seconds in which an application notes what it has committed
RISE_SEEN = 20.0  # seconds in which a daemon finds a promotion
STRADDLES = 2.0  # seconds that a statement may have been under way when the server's clock stepped
WITHOUT_A_LEASE = (
    "cancelled",
    "unknown",
)  # taken back, discarded, or open for 23 hours; all else is a settle's
SETTLES = {
    "outboxd settler",
    "outboxd claimer",
    "outboxd binder",
}  # who end what is in a lease, and nothing else
LEGAL = {
    None: {"ready"},
    "ready": {"lease", *WITHOUT_A_LEASE},
    "lease": {"ready", "batch", *ENDS, *BURIED},
    "batch": {"lease", *WITHOUT_A_LEASE},
    "dead": {"sent"},
    "unknown": {"sent"},
}
HOMES = ("ready", *ENDS, *BURIED)


@dataclass(slots=True)
class Lease:
    """One email's time in one lease; `ended` is None while it lasts."""

    tag: str
    began: float
    until: float
    ended: float | None = None
    ended_by: str = ""
    gate: str | None = None
    ended_at_gate: str | None = None
    stepped: float = 0.0  # by how much the server's clock was further ahead at its end than at its beginning
    ahead: float = 0.0


@dataclass(slots=True)
class Track:
    """Where one email is, and the transaction that is moving it."""

    xid: int = 0
    home: str | None = None
    places: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    was_open: bool = False
    moves: list[Move] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)


def tracks(history: History) -> tuple[dict[int, Track], list[Violation]]:
    """The way of every email, and what was illegal in it."""
    found: dict[int, Track] = defaultdict(Track)
    wrong: list[Violation] = []
    for move in history.moves:
        for id_ in move.ids:
            track = found[id_]
            if track.moves and move.xid != track.xid:
                wrong += _finish(id_, track)
            track.xid = move.xid
            track.moves.append(move)
            _apply(track, move)
            wrong += _word(id_, move)
    for id_, track in found.items():
        wrong += _finish(id_, track)
    return dict(found), wrong


def _apply(track: Track, move: Move) -> None:
    if move.place in {"window", "renewed"}:
        return
    place = (move.place, move.tag if move.place in {"lease", "batch"} else None)
    track.places[place] += -1 if move.gone else 1
    if move.place != "lease":
        return
    if not move.gone:
        track.leases.append(
            Lease(move.tag or "", move.at, move.until or move.at, gate=move.gate, ahead=move.ahead)
        )
        return
    for lease in reversed(track.leases):
        if lease.tag == move.tag and lease.ended is None:
            lease.ended, lease.ended_by, lease.ended_at_gate = move.at, move.who, move.gate
            lease.stepped = move.ahead - lease.ahead
            return


def _word(id_: int, move: Move) -> Iterator[Violation]:
    if move.place == "window" and move.who != "faults":
        yield Violation(
            "S10", f"the first ask of an open email was moved at {move.at:.3f} by {move.who}", id=id_
        )


def _finish(id_: int, track: Track) -> Iterator[Violation]:
    """Judge what one transaction left behind."""
    held = Counter({place: n for place, n in track.places.items() if n})
    last = track.moves[-1]
    where = f"after transaction {track.xid} of {last.who!r} at {last.at:.3f}"
    if any(n != 1 for n in held.values()):
        yield Violation("S6", f"{_shown(held)} {where}: left where it was not, or came twice", id=id_)
    leases = [place for place in held if place[0] == "lease"]
    if len(leases) > 1:
        yield Violation("S7", f"in {len(leases)} leases at once {where}", id=id_)
    homes = [place for place, _ in held if place in HOMES]
    if leases:
        homes.append("lease")
    elif any(place == "batch" for place, _ in held):
        homes.append("batch")
    if len(homes) != 1:
        yield Violation("S6", f"in {homes or 'no table of a state'} {where}", id=id_)
    home = homes[0] if homes else None
    if home != track.home and home is not None and home not in LEGAL.get(track.home, ()):
        yield Violation("S6", f"illegal move {track.home} → {home} {where}", id=id_)
    if track.home in {"ready", "batch"} and home in WITHOUT_A_LEASE and last.who in SETTLES:
        yield Violation("S6", f"{track.home} → {home}, which nobody had, {where}", id=id_)
    is_open = ("open", None) in held
    if track.was_open and not is_open and home not in ENDS + BURIED:
        yield Violation("S10", f"its open answer was forgotten {where}", id=id_)
    if track.was_open and home == "dead":
        yield Violation(
            "S13", f"dead, which says that it was not accepted, with an open answer {where}", id=id_
        )
    track.home, track.was_open, track.places = home, is_open, held


def _shown(held: Counter[tuple[str, str | None]]) -> str:
    return ", ".join(f"{place}×{n}" for (place, _), n in sorted(held.items(), key=str))


def early_reclaims(history: History, found: Mapping[int, Track]) -> Iterator[Violation]:
    """S7: only who holds a lease ends it before its time, by the server's clock."""
    for id_, track in found.items():
        for lease in track.leases:
            early = lease.ended is not None and lease.ended + lease.stepped < lease.until - TOLERANCE
            if early and lease.ended_by == "outboxd reclaimer" and not _at_a_step(history, lease.ended):
                text = f"reclaimed {lease.until - lease.ended:.2f} s before its lease {lease.tag} ran out"
                yield Violation("S7", text, id=id_)


def _at_a_step(history: History, at: float) -> bool:
    """Whether the clock stepped between a statement's look at it and the record of what it did."""
    return any(when - TOLERANCE <= at <= when + STRADDLES for when, _ in history.steps)


def strangers(history: History, found: Mapping[int, Track]) -> Iterator[Violation]:
    """S6: an email leaves a lease by the daemon that has it; by another one only as reclaimed.

    A claimer that finds a promotion reclaims what was in hand before it, where such mail is to be held.
    """
    for id_, track in found.items():
        for lease in track.leases:
            known = lease.gate is not None and lease.ended_at_gate is not None
            if known and lease.gate != lease.ended_at_gate and not _reclaimed(history, lease):
                text = f"left lease {lease.tag} by another daemon's {lease.ended_by!r} at {lease.ended:.3f}"
                yield Violation("S6", text, id=id_)


def _reclaimed(history: History, lease: Lease) -> bool:
    assert lease.ended is not None
    if lease.ended_by != "outboxd claimer":
        return lease.ended_by == "outboxd reclaimer"
    risen = [fault for fault in history.injected if fault.kind == "promotion"]
    return history.holds and any(
        lease.began <= fault.until and fault.at <= lease.ended <= fault.until + RISE_SEEN for fault in risen
    )


def batches(history: History) -> Iterator[Violation]:
    """S4, S10: what is stored of a batch does not change, nor its first ask while it is open, and that it is open stays,
    but for what an operator releases.
    """
    for move in history.moves:
        if move.place == "batch_bytes":
            yield Violation(
                "S4", f"the bytes of batch {move.tag} were changed at {move.at:.3f} by {move.who}"
            )
        if move.place == "batch_window" and move.who != "faults":
            yield Violation(
                "S10", f"the first ask of open batch {move.tag} was moved at {move.at:.3f} by {move.who}"
            )
        if move.place == "batch_open" and move.gone and not _decided(history, move):
            yield Violation("S10", f"the open answer of batch {move.tag} was forgotten at {move.at:.3f}")


def _decided(history: History, released: Move) -> bool:
    """Whether an operator let the batch go who had taken one of its members back, since the provider's list has it."""
    taken_back = {
        one.uid for one in history.cancels if one.fate != "aborted" and one.at <= released.at + NOTED
    }
    members = {
        id_
        for move in history.moves
        if move.place == "batch" and move.tag == released.tag and not move.gone
        for id_ in move.ids
    }
    return released.who == OPERATOR and any(
        row.uid in taken_back for id_, row in history.rows.items() if id_ in members
    )


def drained(history: History, found: Mapping[int, Track]) -> Iterator[Violation]:
    """S1, L1: after healing, every email is at an end, in the record of moves and in the database."""
    for id_, track in found.items():
        if track.home not in ENDS + BURIED:
            yield Violation("L1", f"still in {track.home or 'no table of a state'} at the end", id=id_)
    for row in history.rows.values():
        if row.id not in found:
            yield Violation("L1", "was never queued", id=row.id, uid=row.uid)
        elif row.end != found[row.id].home:
            text = f"the database says {row.end}, its moves say {found[row.id].home}"
            yield Violation("S6", text, id=row.id, uid=row.uid)
