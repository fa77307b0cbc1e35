"""What a standby that lost its tail excuses, exactly: phantoms, and members of batches that it does not remember. Pure.

A single email keeps its key in its own row: it is never excused for having been accepted twice. Where an operator decides
what is sent again, no batch is either. An event that was inserted again, since its first email is forgotten, is another
email.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from .history import Ask, History, Insert, Violation

EXCUSABLE = {"S1", "S2", "S3", "S5", "S8", "S9", "S12", "S14"}
SETTLING = 5.0  # seconds in which what was claimed before the promotion may still be asked for and limits be exceeded
CLASSES = {"S1": "lost insert", "S2": "phantom", "S3": "accepted twice"}


def split(history: History, violations: Sequence[Violation]) -> tuple[list[Violation], list[Violation]]:
    """Those that count, and those that are the loss of a tail."""
    if not history.tails:
        return list(violations), []
    uids = {uid for ask in history.asks if _within(history, ask.at) for uid in ask.uids}
    accepted = {
        uid for ask in history.asks if ask.verdict == "new" for uid in ask.uids if _within(history, ask.at)
    }
    cancelled = {cancel.uid for cancel in history.cancels if _within(history, cancel.at)}
    uids, accepted = uids | cancelled, accepted | cancelled
    lost = list(_lost_inserts(history))
    markers, phantoms = {insert.marker for insert in lost}, {insert.uid for insert in lost}
    batched = {uid for members in lost_batches(history).values() for uid in members}
    keyed = {row.uid for row in history.rows.values() if row.dedupe_key is not None}
    counted, excused = [], []
    for violation in violations:
        match violation.rule:
            case "S1":
                free = violation.marker in markers and (
                    "rows" not in violation.text or "has 0 rows" in violation.text
                )
            case "S2":
                free = violation.marker in markers or violation.uid in phantoms
            case "S3" if "dedupe key" in violation.text:
                free = violation.uid in uids & keyed  # the first one was forgotten
            case "S3":
                free = violation.uid in batched and not history.holds and _once_beside(history, violation.uid)
            case "S5" if "ended as" not in violation.text:
                free = False
            case "S5" | "S14":
                free = violation.uid in accepted
            case rule if rule in EXCUSABLE:
                at = violation.at
                free = violation.uid in uids or (at is not None and _within(history, at))
            case _:
                free = False
        (excused if free else counted).append(violation)
    return counted, excused


def named(history: History, excused: Sequence[Violation]) -> Iterator[str]:
    """Every one by its class and name, one line for each class; and each lost batch with all of its members."""
    for rule, n in sorted(Counter(violation.rule for violation in excused).items()):
        names = [one.uid or one.marker or f"at {one.at}" for one in excused if one.rule == rule]
        yield f"{CLASSES.get(rule, rule)}, {n}: {', '.join(str(name) for name in names)}"
    for tag, members in lost_batches(history).items():
        yield f"lost batch {tag}, {len(members)} members: {', '.join(members)}"


def _lost_inserts(history: History) -> Iterator[Insert]:
    """What was committed, or may have been, while the standby heard nothing."""
    for insert in history.inserts:
        if insert.fate != "aborted" and any(
            tail.first <= insert.at <= tail.stopped for tail in history.tails
        ):
            yield insert


def lost_batches(history: History) -> dict[str, tuple[str, ...]]:
    """By its tag, who travelled in a batch that was asked for beside a promotion and of which the record of moves has
    nothing: its storing was lost.
    """
    remembered = {move.tag for move in history.moves if move.place == "batch"}
    found: dict[str, tuple[str, ...]] = {}
    for ask in history.asks:
        tag = _tag(ask)
        if tag is not None and tag not in remembered and _within(history, ask.at):
            found.setdefault(tag, ask.uids)
    return found


def _once_beside(history: History, uid: str) -> bool:
    """Whether an email was accepted once at most in each lost batch, and once at most in all other requests."""
    lost = lost_batches(history)
    where = Counter(
        tag if (tag := _tag(ask)) in lost else None
        for ask in history.asks
        if ask.verdict == "new" and uid in ask.uids
    )
    return all(n == 1 for n in where.values())


def _tag(ask: Ask) -> str | None:
    return ask.key.split(".")[1] if ask.key.startswith("obxb1.") else None


def _within(history: History, at: float) -> bool:
    return any(tail.first <= at <= tail.last + SETTLING for tail in history.tails)
