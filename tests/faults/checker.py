"""Judge a history: every broken invariant, the first offender's timeline. Pure."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from . import rules_ends, rules_ledger, rules_moves, rules_rows
from .history import BURIED, ENDS, History, Violation

AROUND = 5.0  # seconds before what no email stands for, of which faults are told
RULES = [
    "S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13", "S14", "S17", "S18", "L1", "L2",
    "L3", "L4", "L6",
]  # fmt: skip


def check(history: History) -> list[Violation]:
    """Every violation, the most telling rules first."""
    tracks, found = rules_moves.tracks(history)
    found += [
        *rules_rows.substance(history),
        *rules_ledger.once(history),
        *rules_rows.inserts(history),
        *rules_rows.kept(history, tracks),
        *rules_rows.aborted(history),
        *rules_ledger.same_bytes(history),
        *rules_ledger.agreement(history),
        *rules_moves.early_reclaims(history, tracks),
        *rules_moves.strangers(history, tracks),
        *rules_moves.batches(history),
        *rules_moves.drained(history, tracks),
        *rules_ledger.leased(history, tracks),
        *rules_ledger.taken_back(history),
        *rules_ends.words(history, tracks),
        *rules_ends.suppressed(history, tracks),
        *rules_ends.expired(history, tracks),
        *rules_ends.after_the_end(history, tracks),
        *rules_ends.unasked_for(history, tracks),
        *rules_ledger.old_keys(history, tracks),
        *rules_ledger.limits(history, tracks),
        *rules_ledger.together(history),
        *rules_rows.attempts(history, tracks),
        *rules_rows.crash_limit(history, tracks),
        *rules_ends.unexplained(history),
        *rules_rows.sessions(history),
        *rules_rows.leaks(history),
    ]
    return sorted(found, key=lambda violation: RULES.index(violation.rule))


def summary(violations: Sequence[Violation]) -> str:
    """How often each rule was broken."""
    counts = Counter(violation.rule for violation in violations)
    return ", ".join(f"{rule}: {counts[rule]}" for rule in RULES if counts[rule]) or "none"


def timeline(history: History, violation: Violation) -> Iterator[str]:
    """All that is known of the offender, in order of time, with the faults around it."""
    row = next((row for row in history.rows.values() if _is_it(row.id, row.uid, row.marker, violation)), None)
    id_ = row.id if row else violation.id
    uid = row.uid if row else violation.uid
    marker = row.marker if row else violation.marker
    told = [
        (
            move.at,
            f"{move.who} (tx {move.xid}): {'leaves' if move.gone else 'enters'} {move.place} {move.tag or ''}",
        )
        for move in history.moves
        if id_ is not None and id_ in move.ids
    ]
    told += [
        (ask.at, f"request {ask.n}, key {ask.key}: {ask.verdict} {ask.fault}")
        for ask in history.asks
        if uid in ask.uids or (marker and marker in ask.to)
    ]
    for insert in history.inserts:
        if marker and insert.marker == marker:
            relaxed = ", relaxed" if insert.relaxed else ""
            told.append((insert.at, f"application: insert {insert.fate}{relaxed} {insert.dedupe_key or ''}"))
    for one in history.suppressions:
        if marker and one.marker == marker:
            told.append((one.at, f"application: suppress {one.fate}"))
    for cancel in history.cancels:
        if uid and cancel.uid == uid:
            told.append((cancel.at, f"application: cancel {cancel.fate}, certain: {cancel.certain}"))
    times = [at for at, _ in told] or ([violation.at - AROUND, violation.at] if violation.at else [])
    if times:
        first, last = min(times) - 1.0, max(times) + 1.0
        told += [(f.at, f"FAULT {f.kind}: {f.what}") for f in history.injected if first <= f.at <= last]
    yield f"{violation.rule}: {violation.text}"
    yield f"  email {id_}, uid {uid}, {marker}, ended as {row.end if row else 'no row'}"
    for at, text in sorted(told):
        yield f"  {at:.3f}  {text}"


def last_to_leave(history: History, drained_at: float = math.inf) -> Violation | None:
    """Which email kept the queue from draining longest, of those that no limit holds."""
    limited = {limit.type for limit in history.limits}
    free = {id_ for id_, row in history.rows.items() if row.type not in limited}
    waiting = [id_ for id_ in free if history.rows[id_].end is None]
    if waiting:
        return Violation("L1", "waited when the drain was given up", id=min(waiting))
    moves = [move for move in history.moves if move.place in ENDS + BURIED and move.at <= drained_at]
    ends = ((move.at, id_) for move in moves for id_ in move.ids if id_ in free)
    at, id_ = max(ends, default=(0.0, None))
    return None if id_ is None else Violation("L1", "was the last to leave", id=id_, at=at)


def _is_it(id_: int, uid: str, marker: str, violation: Violation) -> bool:
    return violation.id == id_ or violation.uid == uid or (violation.marker or object()) == marker
