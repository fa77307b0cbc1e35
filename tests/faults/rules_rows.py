"""What applications believe, against the rows that there are; and how the daemons behaved towards the server. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from .history import Ask, History, Injected, Insert, Row, Sample, Violation
from .rules_ledger import EPSILON, by_uid
from .rules_moves import Lease, Track

LOSES_TAIL = {
    "immediate",
    "synchronous standby",
    "asynchronous standby",
    "data full, crashed",
    "wal full, crashed",
}  # what a commit that did not wait may be lost by
STALLS = ("zombie", "proxy pg", "clock server")  # what keeps a transaction open without its daemon
THROTTLES = {"429", "429-bare", "429-odd"}  # which say when to come again, and use no attempt up
UNCLEAR = {
    "esp",
    "proxy esp",
    "zombie",
    "clock daemon",
}  # beside which something else may have been heard than was said
HEARD = 0.7  # of a deadline, in which an answer that was heard is settled; one that was not is given up at its end
UNWRITTEN = 30.0  # seconds that a commit may go without the disk: three times wal_writer_delay, which storms set to 10
CUT = 1.0  # seconds in which the server notices that a proxy has let go of connections
LONGEST = 6.0  # seconds that a daemon's transaction may last: it waits at most 5 s for a lock


def inserts(history: History) -> Iterator[Violation]:
    """S1, S2: acknowledged is one row, aborted none, ambiguous at most one."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in history.rows.values():
        rows[row.marker].append(row)
    crashes = [fault for fault in history.injected if fault.what in LOSES_TAIL]
    yield from _originals(history, crashes)
    for insert in history.inserts:
        n = len(rows.get(insert.marker, ()))
        if insert.fate == "acked":
            swept = _swept(insert, crashes)
            least = 0 if insert.duplicate or swept else 1
            most = 0 if insert.duplicate else 1
        else:
            least, most = 0, 0 if insert.fate == "aborted" else 1
        if not least <= n <= most:
            rule = "S2" if insert.fate == "aborted" else "S1"
            text = f"{insert.fate}{' relaxed' if insert.relaxed else ''}, but has {n} rows"
            yield Violation(rule, text, marker=insert.marker, uid=insert.uid)
        elif n == 1 and insert.uid not in {None, rows[insert.marker][0].uid}:
            text = f"its application was told the uid {insert.uid}"
            yield Violation("S1", text, marker=insert.marker, uid=rows[insert.marker][0].uid)


def _swept(insert: Insert, crashes: Sequence[Injected]) -> bool:
    """Whether a crash may have taken it, since its commit did not wait for the disk."""
    return insert.relaxed and any(
        insert.at <= fault.until and fault.at <= insert.at + UNWRITTEN for fault in crashes
    )


def _originals(history: History, crashes: Sequence[Injected]) -> Iterator[Violation]:
    """S1: the email that an application was shown instead of its own is there; S2: none that nobody inserted."""
    uids = {row.uid for row in history.rows.values()}
    first = {insert.uid: insert for insert in history.inserts if insert.uid and not insert.duplicate}
    for insert in history.inserts:
        if insert.fate != "acked" or not insert.duplicate or insert.uid in uids:
            continue
        original = first.get(insert.uid)
        if original is None or not _swept(original, crashes):
            text = f"told that {insert.uid} has its dedupe key, which has no row"
            yield Violation("S1", text, marker=insert.marker, uid=insert.uid)
    known = {insert.marker for insert in history.inserts}
    for row in history.rows.values():
        if row.marker not in known:
            yield Violation("S2", "no application knows of it", marker=row.marker, uid=row.uid, id=row.id)


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
    """S11: no email has more attempts than it had leases that may have used one up, or than it may have."""
    asks = by_uid(history.asks)
    unclear = [one for one in history.injected if one.kind in UNCLEAR and one.what not in THROTTLES]
    for row in history.rows.values():
        if row.max_attempts is not None and row.attempts > row.max_attempts:
            text = f"{row.attempts} attempts, {row.max_attempts} allowed"
            yield Violation("S11", text, uid=row.uid, id=row.id)
        leases = tracks[row.id].leases if row.id in tracks else []
        if row.attempts <= min(1, len(leases)):
            continue
        free = sum(
            _only_throttled(lease, after.began, asks[row.uid], unclear, history.deadline)
            for lease, after in pairwise(leases)
        )
        if row.attempts > len(leases) - free:
            text = f"{row.attempts} attempts, and {len(leases) - free} of {len(leases)} leases may have used one up"
            yield Violation("S11", text, uid=row.uid, id=row.id)


def _only_throttled(
    lease: Lease, until: float, asks: Sequence[Ask], unclear: Sequence[Injected], deadline: float
) -> bool:
    """Whether all that came of a lease, `until` the next one, is one throttle, whose answer was certainly heard."""
    if lease.ended is None or lease.ended_by != "outboxd settler":
        return False
    if any(fault.at <= lease.ended and fault.until >= lease.began - deadline for fault in unclear):
        return False
    within = [ask for ask in asks if lease.began - EPSILON <= ask.at < until]
    return [ask.fault in THROTTLES and lease.ended - ask.at < HEARD * deadline for ask in within] == [True]


def crash_limit(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S13: no email is quarantined but for as many crashes in a row as are allowed; with streaks switched off, none."""
    asks = by_uid(history.asks)
    for row in history.rows.values():
        if row.error_class != "crash_limit":
            continue
        leases = tracks[row.id].leases if row.id in tracks else []
        crashes = _crashes_in_a_row(leases, [ask.at for ask in asks[row.uid]])
        if not 0 < history.crash_limit <= crashes:
            text = f"quarantined after {crashes} crashes in a row that may have been its own"
            yield Violation("S13", text, uid=row.uid, id=row.id)


def _crashes_in_a_row(leases: Sequence[Lease], asks: Sequence[float]) -> int:
    """How many leases in a row ended without an outcome, at the end; what was asked and settled begins anew."""
    crashes = 0
    for lease in leases:
        ended = lease.ended or lease.until
        if lease.ended_by == "outboxd reclaimer":
            crashes += 1
        elif any(lease.began - EPSILON <= at <= ended + EPSILON for at in asks):
            crashes = 0
    return crashes


def sessions(history: History) -> Iterator[Violation]:
    """S18: no long transaction, not counting the time of what keeps it open without its daemon, whom the server gives up
    by time-outs of its own; and no more connections than configured. A proxy that passes nothing on keeps those of the
    dead, and of who has connected anew.
    """
    stalls = [fault for fault in history.injected if fault.kind.startswith(STALLS)]
    for sample in history.samples:
        oldest = _lasted(history, sample)
        covered = _covered(stalls, sample.at - oldest, sample.at)
        if oldest - covered > (history.given_up if covered else LONGEST):
            text = f"a daemon's transaction lasted {oldest:.1f} s at {sample.at:.3f}: {sample.note}"
            yield Violation("S18", text, at=sample.at)
        kept = any(
            fault.kind == "proxy pg" and fault.at <= sample.at <= fault.until + CUT for fault in stalls
        )
        most = history.most_connections * (2 if kept else 1)
        if sample.connections > most:
            text = f"{sample.connections} connections at {sample.at:.3f}, allowed {most}"
            yield Violation("S18", text, at=sample.at)


def _lasted(history: History, sample: Sample) -> float:
    """Seconds that the oldest transaction lasted, without the steps of the server's clock that it saw."""
    oldest = sample.oldest
    for when, by in sorted(history.steps, reverse=True):
        if by > 0 and when <= sample.at and oldest - by >= sample.at - when - EPSILON:
            oldest -= by
    return oldest


def _covered(faults: Iterable[Injected], since: float, until: float) -> float:
    """How many seconds of this time some of the faults lasted."""
    covered, end = 0.0, since
    for fault in sorted(faults, key=lambda fault: fault.at):
        begin = max(fault.at, end)
        if begin < min(fault.until, until):
            end = min(fault.until, until)
            covered += end - begin
    return covered


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
