"""What must not become of an email: an end without a reason, and an ask that nobody wants any more. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from .history import BURIED, Ask, History, Insert, Row, Violation
from .rules_ledger import EPSILON, LATE, by_uid, excused, gates_of, leases_of
from .rules_moves import Track

FRESH = 1.0  # seconds that an answer of the gates is good for
OF_THE_EMAIL = {"400", "422"}  # asked for alone: a whole batch is refused for one member
OF_STRANGERS = {"407", "redirect"}  # answers in words that nobody knows: they use attempts up
NOT_ASKED = {
    "expired",
    "suppressed",
}  # why an email was not asked for, of which only an open answer makes `unknown`
CERTAIN = {"suppressed", "cancelled", "expired", "dead"}  # ends that say it was not accepted


def unexplained(history: History) -> Iterator[Violation]:
    """S13: nothing is buried without a fault that explains it, which an outage does not."""
    asks = by_uid(history.asks)
    unwanted = {cancel.uid for cancel in history.cancels} | {one.marker for one in history.suppressions}
    for row in history.rows.values():
        if row.end not in BURIED or row.error_class == "crash_limit" or _may_die(row, asks[row.uid]):
            continue
        if row.end == "unknown" and _may_stay_open(history, row, asks[row.uid], unwanted):
            continue
        text = f"{row.end} ({row.error_class}) after {row.attempts} attempts, and no fault explains it"
        yield Violation("S13", text, uid=row.uid, id=row.id)


def unasked_for(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S13: nothing is `expired` before its time, `suppressed` but whose address is, `cancelled` but what was taken back
    or replaced; nor `unknown` where every answer was a refusal, or what kept it from being asked for again while
    nothing was open.
    """
    suppressed = {one.marker for one in history.suppressions}
    cancelled = {one.uid for one in history.cancels} | set(_replaced(history.inserts))
    asks = by_uid(history.asks)
    for row in history.rows.values():
        match row.end:
            case "expired" if row.expires_at is None:
                text = "expired, and never does"
            case "expired" if not history.steps and _ended(tracks, row) < row.expires_at - EPSILON:
                text = f"expired {row.expires_at - _ended(tracks, row):.3f} s before its time"
            case "suppressed" if row.marker not in suppressed:
                text = "suppressed, and nobody did that"
            case "cancelled" if row.uid not in cancelled:
                text = "cancelled, and nobody did that"
            case "unknown" if _all_refused(asks[row.uid]) and not _was_open(history, tracks, row):
                text = "unknown, and every answer was a refusal"
            case "unknown" if row.error_class in NOT_ASKED and not _was_open(history, tracks, row):
                text = f"unknown ({row.error_class}), and no answer was open"
            case _:
                continue
        yield Violation("S13", text, uid=row.uid, id=row.id)


def _replaced(inserts: Sequence[Insert]) -> Iterator[str]:
    """Whose dedupe key another one, that may have been committed, took over."""
    by_key: dict[str, set[str]] = defaultdict(set)
    for insert in inserts:
        if insert.dedupe_key and insert.uid and insert.fate != "aborted":
            by_key[insert.dedupe_key].add(insert.uid)
    for uids in by_key.values():
        if len(uids) > 1:
            yield from uids


def _ended(tracks: Mapping[int, Track], row: Row) -> float:
    """When it came to its end; for ever ago where that is not recorded."""
    moves = tracks[row.id].moves if row.id in tracks else []
    return max((move.at for move in moves if move.place == row.end and not move.gone), default=0.0)


def _all_refused(asks: list[Ask]) -> bool:
    return bool(asks) and all(
        len(ask.uids) == 1 and (ask.verdict == "refused" or ask.fault in OF_THE_EMAIL) for ask in asks
    )


def _was_open(history: History, tracks: Mapping[int, Track], row: Row) -> bool:
    """Whether the database noted an open answer of the email, alone or in a batch."""
    moves = tracks[row.id].moves if row.id in tracks else []
    batches = {move.tag for move in moves if move.place == "batch"}
    return any(move.place == "open" for move in moves) or any(
        move.place == "batch_open" and move.tag in batches for move in history.moves
    )


def after_the_end(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S9: what has ended without being sent, and with no answer open, is not asked for any more."""
    rows = {row.uid: row for row in history.rows.values() if row.end in CERTAIN}
    for ask in history.asks:
        for uid in ask.uids:
            row = rows.get(uid)
            if row is None or not (ended := _ended(tracks, row)):
                continue
            late = ask.at - ended
            if late > EPSILON and not _delayed(history, tracks, row, ask, late):
                yield Violation(
                    "S9", f"asked for {late:.3f} s after it had ended as {row.end}", uid=uid, id=row.id
                )


def _may_die(row: Row, asks: list[Ask]) -> bool:
    """It was refused for what it is, or its attempts were used up."""
    return row.max_attempts is not None or any(
        ask.fault in OF_STRANGERS
        or (len(ask.uids) == 1 and (ask.fault in OF_THE_EMAIL or ask.verdict == "refused"))
        for ask in asks
    )


def _may_stay_open(history: History, row: Row, asks: list[Ask], unwanted: set[str]) -> bool:
    """Its answer grew old, or nobody wanted to ask again, or the provider said that other bytes have its key.

    Or its batch was refused, after an ask that may have been accepted.
    """
    return (
        row.uid in history.aged
        or row.expires_at is not None
        or not unwanted.isdisjoint((row.uid, row.marker))
        or any(ask.fault == "conflict" for ask in asks)
        or any(
            ask.fault in OF_THE_EMAIL and any(one.key == ask.key and one.at < ask.at for one in asks)
            for ask in asks
        )
    )


def words(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S9: what was taken back in hand, or with an open answer, is in no request of a later claim, but in that of a batch
    that may have been asked before.
    """
    said: dict[str, float] = {}
    for one in history.cancels:
        if one.fate == "acked" and one.certain is False:
            said[one.uid] = min(one.at, said.get(one.uid, one.at))
    rows, opened = {row.uid: row for row in history.rows.values()}, _since(history, "batch_open")
    for ask in history.asks:
        if opened.get(_batch(ask), ask.at) < ask.at:
            continue
        for uid in said.keys() & set(ask.uids):
            row, late = rows.get(uid), ask.at - said[uid]
            if _claimed(tracks, row, ask) > said[uid] + FRESH and not _delayed(
                history, tracks, row, ask, late
            ):
                text = f"asked for {late:.3f} s after it was taken back"
                yield Violation("S9", text, uid=uid, id=row and row.id)


def _batch(ask: Ask) -> str:
    """The batch whose request this is; "" for a single email's."""
    return ask.key.split(".")[1] if ask.key.startswith("obxb1.") else ""


def suppressed(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S9: who certainly wants no more is in no new request: of a claim that came after, at all; of one that was in hand
    already, but for what a fault made late.

    A batch that was stored before is finished all the same once it may have been asked: a daemon that died with it may
    have died before its request.
    """
    said: dict[str, float] = {}
    for one in history.suppressions:
        if one.fate == "acked":
            said[one.marker] = min(one.at, said.get(one.marker, one.at))
    rows = {row.marker: row for row in history.rows.values()}
    stored, opened = _since(history, "batch"), _since(history, "batch_open")
    for ask in _first_of_each_key(history):
        for marker in said.keys() & set(ask.to):
            row, late = rows.get(marker), ask.at - said[marker] - FRESH
            batch = _batch(ask)
            if stored.get(batch, ask.at) <= said[marker] + FRESH and opened.get(batch, ask.at) < ask.at:
                continue
            if _claimed(tracks, row, ask) > said[marker] or (
                late > LATE and not _delayed(history, tracks, row, ask, late)
            ):
                text = f"in a new request {late + FRESH:.3f} s after it was suppressed"
                yield Violation("S9", text, uid=row and row.uid, marker=marker, at=said[marker])


def expired(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S9: nothing is asked for the first time after its time, but for what a fault made late."""
    if history.steps:
        return  # its time is the server's
    rows = {row.uid: row for row in history.rows.values() if row.expires_at is not None}
    for ask in history.asks:
        for uid in ask.uids:
            row = rows.pop(uid, None)
            if row is None or row.expires_at is None:
                continue
            late = ask.at - row.expires_at
            if late > LATE and not _delayed(history, tracks, row, ask, late):
                yield Violation(
                    "S9", f"asked for the first time {late:.3f} s after it expired", uid=uid, id=row.id
                )


def _claimed(tracks: Mapping[int, Track], row: Row | None, ask: Ask) -> float:
    """When the email was claimed last before it was asked for, by who asked."""
    track = tracks.get(row.id) if row else None
    leases = leases_of(track, ask) if track else []
    return max((lease.began for lease in leases if lease.began <= ask.at), default=0.0)


def _since(history: History, place: str) -> dict[str | None, float]:
    """By batch, when it came to this place first."""
    found: dict[str | None, float] = {}
    for move in history.moves:
        if move.place == place and not move.gone:
            found.setdefault(move.tag, move.at)
    return found


def _first_of_each_key(history: History) -> list[Ask]:
    firsts: dict[str, Ask] = {}
    for ask in history.asks:
        firsts.setdefault(ask.key, ask)
    return list(firsts.values())


def _delayed(history: History, tracks: Mapping[int, Track], row: Row | None, ask: Ask, late: float) -> bool:
    """Whether a fault kept the ask on its way since it was still wanted."""
    track = tracks.get(row.id) if row else None
    gates = gates_of(track, ask) if track else {None}
    return excused(history.injected, ask.at - late - history.deadline, ask.at, late, gates)
