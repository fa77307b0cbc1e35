"""What a standby that lost its tail excuses, exactly: phantoms, and members of batches that it does not remember. Pure.

A single email keeps its key in its own row: it is never excused for having been accepted twice. Where an operator decides what is sent again, nothing is.
"""

from collections.abc import Sequence

from .history import History, Violation

EXCUSABLE = {"S1", "S2", "S3", "S5", "S8", "S9", "S12", "S14"}
SETTLING = 5.0  # seconds in which what was claimed before the promotion may still be asked for and limits be exceeded


def split(history: History, violations: Sequence[Violation]) -> tuple[list[Violation], list[Violation]]:
    """Those that count, and those that are the loss of a tail."""
    if not history.tails:
        return list(violations), []
    uids = {uid for ask in history.asks if _within(history, ask.at) for uid in ask.uids}
    uids |= {cancel.uid for cancel in history.cancels if _within(history, cancel.at)}
    markers = {insert.marker for insert in history.inserts if _within(history, insert.at)}
    batched = {uid for ask in history.asks if ask.key.startswith("obxb1.") for uid in ask.uids}
    keyed = {row.uid for row in history.rows.values() if row.dedupe_key is not None}
    counted, excused = [], []
    for violation in violations:
        lost = violation.rule in EXCUSABLE and (
            violation.uid in uids
            or (violation.marker is not None and violation.marker in markers)
            or (violation.at is not None and _within(history, violation.at))
        )
        if violation.rule == "S3":
            again = violation.uid in keyed and "dedupe key" in violation.text  # the first one is forgotten
            lost = lost and (again or (not history.holds and violation.uid in batched | keyed))
        (excused if lost else counted).append(violation)
    return counted, excused


def _within(history: History, at: float) -> bool:
    return any(first <= at <= last + SETTLING for first, last in history.tails)
