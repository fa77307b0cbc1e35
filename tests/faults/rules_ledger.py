"""What the provider's ledger must show: one acceptance, one body, no ask without a lease, limits held. Pure."""

import bisect
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from . import rules_moves
from .history import Ask, History, Injected, Limit, Row, Violation
from .rules_moves import Lease, Track

LATE = (
    2.0  # seconds that an ask may be on its way: its deadline in a storm, and as long again in a slow network
)
EPSILON = 0.15  # seconds between two clocks of one machine, and between an ask's begin and its arrival
SLOWED = 5.0  # seconds more that a faulty network may keep one on its way; longer only a zombie does
DELAY = {
    "latency",
    "bandwidth",
    "slicer",
    "drip",
    "pause_resume",
    "per_connection_random",
}  # what passes a request on, later


def by_uid(asks: Iterable[Ask]) -> dict[str, list[Ask]]:
    """By uid, its asks."""
    found: dict[str, list[Ask]] = defaultdict(list)
    for ask in asks:
        for uid in ask.uids:
            found[uid].append(ask)
    return found


def accepted(asks: Iterable[Ask]) -> dict[str, list[Ask]]:
    """By uid, the asks that were accepted as new."""
    return by_uid(ask for ask in asks if ask.verdict == "new")


def once(history: History) -> Iterator[Violation]:
    """S3: no email was accepted twice, under whatever keys; nor two emails of one dedupe key."""
    news = accepted(history.asks)
    for uid, asks in news.items():
        if len(asks) > 1:
            keys = ", ".join(sorted({ask.key or "no key" for ask in asks}))
            yield Violation("S3", f"accepted {len(asks)} times, under {keys}", uid=uid)
    by_key: dict[str, list[str]] = defaultdict(list)
    for row in history.rows.values():
        if row.dedupe_key is not None and row.uid in news:
            by_key[row.dedupe_key].append(row.uid)
    for key, uids in by_key.items():
        if len(uids) > 1:
            yield Violation("S3", f"{len(uids)} emails of dedupe key {key} were accepted", uid=uids[0])


def same_bytes(history: History) -> Iterator[Violation]:
    """S4: all bodies under one key are the same bytes."""
    bodies: dict[str, str] = {}
    for ask in history.asks:
        if not ask.key:
            yield Violation("S4", f"request {ask.n} had no key", uid=ask.uids[0] if ask.uids else None)
        elif bodies.setdefault(ask.key, ask.sha256) != ask.sha256:
            yield Violation("S4", f"two bodies under {ask.key}", uid=ask.uids[0] if ask.uids else None)


def agreement(history: History) -> Iterator[Violation]:
    """S2, S5, S13: the database and the provider agree on what was sent, and on its id."""
    rows = {row.uid: row for row in history.rows.values()}
    news = accepted(history.asks)
    suppressed = {one.marker for one in history.suppressions}  # others of its recipients may remain
    for uid, asks in news.items():
        row = rows.get(uid)
        if row is None:
            yield Violation("S2", f"accepted at {asks[0].at:.3f}, but no transaction inserted it", uid=uid)
        elif row.end not in {"sent", "unknown"}:
            rule = "S13" if row.end == "dead" else "S5"
            yield Violation(rule, f"was accepted, but ended as {row.end}", uid=uid, id=row.id)
        elif row.end == "sent" and row.provider_id not in _ids(asks, uid):
            text = f"sent as {row.provider_id}, accepted as {', '.join(_ids(asks, uid))}"
            yield Violation("S5", text, uid=uid, id=row.id)
        if row is not None and row.marker not in suppressed and any(row.marker not in ask.to for ask in asks):
            yield Violation("S5", "was accepted without its recipient", uid=uid, id=row.id)
    for row in rows.values():
        if row.end == "sent" and row.uid not in news:
            yield Violation("S5", "sent, but the provider never accepted it", uid=row.uid, id=row.id)


def _ids(asks: Iterable[Ask], uid: str) -> list[str]:
    return [ask.provider_ids[ask.uids.index(uid)] for ask in asks if len(ask.provider_ids) == len(ask.uids)]


def leased(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S8: every ask falls into a lease that who asks has of each of its emails, but for what a fault made late."""
    for ask, row, late in late_asks(history, tracks):
        if late is None:
            yield Violation(
                "S8", f"asked at {ask.at:.3f} without ever being leased before", uid=row.uid, id=row.id
            )
        elif not excused(
            history.injected, ask.at - late - history.deadline, ask.at, late, gates_of(tracks[row.id], ask)
        ):
            yield Violation("S8", f"asked {late:.3f} s after its lease had ended", uid=row.uid, id=row.id)


def late_asks(history: History, tracks: Mapping[int, Track]) -> Iterator[tuple[Ask, Row, float | None]]:
    """Asks outside of every lease that who asks has of their email, and by how many seconds too late; None before any lease."""
    rows = {row.uid: row for row in history.rows.values()}
    for ask in history.asks:
        for uid in ask.uids:
            row = rows.get(uid)
            if row is None or row.id not in tracks:
                continue
            ends = [
                min(lease.until, (lease.ended or lease.until) + LATE)
                for lease in leases_of(tracks[row.id], ask)
            ]
            if not ends:
                yield ask, row, None
            elif max(ends) + EPSILON < ask.at:
                yield ask, row, ask.at - max(ends)


def leases_of(track: Track, ask: Ask) -> list[Lease]:
    """An email's leases that began before it was asked for, of who asked, where that is known."""
    return [
        lease
        for lease in track.leases
        if lease.began <= ask.at + EPSILON
        and (not ask.gates or lease.gate is None or lease.gate in ask.gates)
    ]


def gates_of(track: Track, ask: Ask) -> set[str | None]:
    """Who asked; where that is not known, the daemons that had the email before."""
    return set(ask.gates) or {lease.gate for lease in leases_of(track, ask)}


def excused(
    injected: Iterable[Injected], since: float, until: float, late: float, gates: set[str | None]
) -> bool:
    """Whether a fault was at work in this time that delays requests so long: one of the daemons that had the email
    stood still until just before, or its network was slow.
    """
    return any(
        fault.at <= until
        and fault.until >= since
        and (
            (
                fault.kind == "zombie"
                and until <= fault.until + LATE
                and (fault.gate is None or not gates.isdisjoint({fault.gate, None}))
            )
            or (
                fault.kind == "proxy esp"
                and fault.what in DELAY
                and late <= SLOWED
                and (fault.behind is None or None in gates or not gates.isdisjoint(fault.behind))
            )
        )
        for fault in injected
    )


def taken_back(history: History) -> Iterator[Violation]:
    """S9: what an application was told to be certainly cancelled was never accepted, and is not asked for after that."""
    news = accepted(history.asks)
    last = {uid: ask.at for ask in history.asks for uid in ask.uids}
    for cancel in history.cancels:
        if cancel.fate != "acked" or not cancel.certain:
            continue
        if cancel.uid in news:
            yield Violation("S9", f"cancelled at {cancel.at:.3f} for certain, and accepted", uid=cancel.uid)
        elif last.get(cancel.uid, 0.0) > cancel.at + EPSILON:
            text = f"cancelled at {cancel.at:.3f} for certain, and asked for at {last[cancel.uid]:.3f}"
            yield Violation("S9", text, uid=cancel.uid)


def old_keys(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S10: what was asked 23 hours ago and never answered is not asked again.

    One that was late began before: in no lease since, or while its own deadline and the network's delay last. If such
    a one was accepted twice, S3 says so.
    """
    rows = {row.uid: row.id for row in history.rows.values()}
    for ask in history.asks:
        for uid in ask.uids:
            aged = history.aged.get(uid)
            if aged is None or ask.at <= aged + LATE:
                continue
            track = tracks.get(rows.get(uid, 0))
            if track is None or any(
                aged - EPSILON <= lease.began <= ask.at + EPSILON for lease in track.leases
            ):
                yield Violation("S10", "asked again after 23 hours without an answer", uid=uid)


def limits(history: History, tracks: Mapping[int, Track]) -> Iterator[Violation]:
    """S12: no sliding window holds more acceptances than its limit allows."""
    ids = {row.uid: row.id for row in history.rows.values()}
    late = too_late(history, tracks)
    for limit in history.limits:
        found = list(windows(history, limit, late))
        if not found:
            yield Violation("S12", f"nothing of type {limit.type} was accepted: its limit was not tried")
        for window in found:
            held = len(window.asks)
            if window.judged and held > limit.most:
                since, uid = max((_claimed_before(tracks, ids[uid], at), uid) for at, uid in window.asks)
                text = f"{held} of type {limit.type} within {limit.per:g} s at {window.at:.3f}, allowed {limit.most}"
                text += f"; one had been claimed {since:.3f} s before"
                yield Violation("S12", text, uid=uid, at=window.at)
                break


@dataclass(frozen=True, slots=True)
class Window:
    """What was accepted until `at`, within a limit's window: when, and which email."""

    at: float
    asks: list[tuple[float, str]]
    judged: bool  # not where its counts went with a tail, nor where by the server's clock, which went ahead, it is none


def windows(history: History, limit: Limit, late: Container[tuple[int, str]] = ()) -> Iterator[Window]:
    """The window that ends with each acceptance, in their order; those of `late`, as of `too_late`, are in none."""
    kinds = {row.uid: row.type for row in history.rows.values()}
    asks = sorted(
        (ask.at, uid)
        for ask in history.asks
        if ask.verdict == "new"
        for uid in ask.uids
        if kinds.get(uid) == limit.type and (ask.n, uid) not in late
    )
    times = [at for at, _ in asks]
    for place, at in enumerate(times):
        lost = any(tail.first <= at <= tail.last + limit.per + 5.0 for tail in history.tails)
        longer = any(by > 0 and at - limit.per <= when <= at + EPSILON for when, by in history.steps)
        first = bisect.bisect_right(times, at - limit.per)
        yield Window(at, asks[first : place + 1], judged=not (lost or longer))


def too_late(history: History, tracks: Mapping[int, Track]) -> set[tuple[int, str]]:
    """What was asked outside of its lease: the request's number and the email."""
    return {(ask.n, row.uid) for ask, row, _ in late_asks(history, tracks)}


def fullest(history: History) -> dict[str, dict[str, int]]:
    """By type, how many the fullest window held that is judged, the fullest with all that is not, and how much that is."""
    late = too_late(history, rules_moves.tracks(history)[0])
    found = {}
    for limit in history.limits:
        every, rest = list(windows(history, limit)), list(windows(history, limit, late))
        found[limit.type] = {
            "judged": max((len(window.asks) for window in rest if window.judged), default=0),
            "with all": max((len(window.asks) for window in every), default=0),
            "late acceptances": len(every) - len(rest),
            "windows left out": sum(not window.judged for window in rest),
        }
    return found


def _claimed_before(tracks: Mapping[int, Track], id_: int, at: float) -> float:
    """Seconds from an email's last claim to this ask; 0 where none is known."""
    leases = tracks[id_].leases if id_ in tracks else []
    return at - max((lease.began for lease in leases if lease.began <= at + EPSILON), default=at)


def together(history: History) -> Iterator[Violation]:
    """S14: what travelled in one accepted request ended together."""
    ends = {row.uid: row.end for row in history.rows.values()}
    for ask in history.asks:
        if ask.verdict == "new" and len(ask.uids) > 1:
            found = Counter(ends.get(uid) for uid in ask.uids)
            if len(found) > 1:
                yield Violation("S14", f"the members of {ask.key} ended as {dict(found)}", uid=ask.uids[0])
