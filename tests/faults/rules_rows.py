"""What applications believe, against the rows that there are; and how the daemons behaved towards the server. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from .history import History, Row, Violation
from .rules_moves import Track

LOSES_TAIL = {
    "immediate",
    "synchronous standby",
    "asynchronous standby",
    "data full, crashed",
    "wal full, crashed",
}  # what a commit that did not wait may be lost by
STALLS = ("zombie", "proxy pg", "clock server")  # what keeps a transaction open without its daemon
UNWRITTEN = 30.0  # seconds that a commit may go without the disk: three times wal_writer_delay, which storms set to 10
LONGEST = 6.0  # seconds that a daemon's transaction may last: it waits at most 5 s for a lock


def inserts(history: History) -> Iterator[Violation]:
    """S1, S2: acknowledged is one row, aborted none, ambiguous at most one."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in history.rows.values():
        rows[row.marker].append(row)
    crashes = [fault for fault in history.injected if fault.what in LOSES_TAIL]
    for insert in history.inserts:
        n = len(rows.get(insert.marker, ()))
        if insert.fate == "acked":
            swept = insert.relaxed and any(
                insert.at <= fault.until and fault.at <= insert.at + UNWRITTEN for fault in crashes
            )
            least = 0 if insert.duplicate or swept else 1
            most = 0 if insert.duplicate else 1
        else:
            least, most = 0, 0 if insert.fate == "aborted" else 1
        if not least <= n <= most:
            rule = "S2" if insert.fate == "aborted" else "S1"
            text = f"{insert.fate}{' relaxed' if insert.relaxed else ''}, but has {n} rows"
            yield Violation(rule, text, marker=insert.marker, uid=insert.uid)


def kept(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S1: what was queued has its row: a crash that takes the row takes the record of its moves with it."""
    for id_ in tracks.keys() - history.rows.keys():
        yield Violation("S1", "was queued, and its row is gone", id=id_)


def aborted(history: History) -> Iterator[Violation]:
    """S2: nothing that was rolled back was asked for."""
    never = {insert.marker for insert in history.inserts if insert.fate == "aborted"}
    for ask in history.asks:
        for marker in never.intersection(ask.to):
            yield Violation("S2", f"rolled back, but asked for in request {ask.n}", marker=marker)


def attempts(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S11: no email has more attempts than it had leases."""
    for row in history.rows.values():
        leases = len(tracks[row.id].leases) if row.id in tracks else 0
        if row.attempts > leases:
            yield Violation("S11", f"{row.attempts} attempts in {leases} leases", uid=row.uid, id=row.id)


def crash_limit(history: History) -> Iterator[Violation]:
    """Law 5: with streaks switched off, no email is quarantined because its daemons were killed."""
    for row in history.rows.values():
        if row.error_class == "crash_limit":
            yield Violation("S13", "quarantined for crashes that were not its own", uid=row.uid, id=row.id)


def sessions(history: History) -> Iterator[Violation]:
    """S18: no long transaction, no more connections than configured."""
    for sample in history.samples:
        since = sample.at - sample.oldest
        stalled = any(
            fault.kind.startswith(STALLS) and fault.at <= sample.at and fault.until >= since
            for fault in history.injected
        )
        if sample.oldest > LONGEST and not stalled:
            text = f"a daemon's transaction lasted {sample.oldest:.1f} s at {sample.at:.3f}: {sample.note}"
            yield Violation("S18", text, at=sample.at)
        if sample.connections > history.most_connections:
            text = f"{sample.connections} connections at {sample.at:.3f}, allowed {history.most_connections}"
            yield Violation("S18", text, at=sample.at)


def leaks(history: History) -> Iterator[Violation]:
    """S17: no planted secret or address was seen where it must not be."""
    for leak in history.leaks:
        yield Violation("S17", leak)


def substance(history: History) -> Iterator[Violation]:
    """S0: a history in which nothing happened proves nothing."""
    fates = Counter(insert.fate for insert in history.inserts)
    for name, there in (
        ("moves", history.moves),
        ("emails", history.rows),
        ("requests", history.asks),
        ("acknowledged inserts", fates["acked"]),
        ("sessions looked at", history.samples),
    ):
        if not there:
            yield Violation("S0", f"no {name}: nothing was proved")
