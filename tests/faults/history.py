"""What is known of one run: the evidence that the checker judges. Plain values; times are Unix seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Fate = Literal["acked", "aborted", "ambiguous"]
ENDS = ("sent", "suppressed", "cancelled", "expired")
BURIED = ("dead", "unknown")


class Move(NamedTuple):
    """One statement's work in one table of a state, in the order in which the database wrote it.

    `place`: ready, lease, batch, an end's name, dead, unknown; open (its ambiguity), window (its first ask moved),
    batch_open, batch_bytes, batch_window, renewed. `tag`: the lease or the batch. `gate`: which daemon; None where that is not known.
    `ahead`: of true time, in which `at` and `until` are given, the server's clock was when it wrote.
    """

    n: int
    at: float
    xid: int
    who: str
    place: str
    gone: bool
    ids: tuple[int, ...]
    tag: str | None = None
    until: float | None = None
    gate: str | None = None
    ahead: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One email in the database after the run; `marker` is the recipient that names it, `end` its state's table."""

    id: int
    uid: str
    marker: str
    type: str = "welcome"
    dedupe_key: str | None = None
    end: str | None = None
    provider_id: str | None = None
    attempts: int = 0
    error_class: str | None = None
    expires_at: float | None = None
    max_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One request in the provider's ledger. `gates`: whose proxies had passed its key on just before; empty if unknown."""

    n: int
    at: float
    key: str
    sha256: str
    uids: tuple[str, ...]
    to: tuple[str, ...]
    verdict: str
    provider_ids: tuple[str, ...] = ()
    fault: str = ""
    gates: frozenset[str] = frozenset()


@dataclass(slots=True)
class Insert:
    """What an application believes of one email. `relaxed`: committed without waiting for the disk."""

    marker: str
    fate: Fate
    at: float
    uid: str | None = None
    dedupe_key: str | None = None
    duplicate: bool = False
    relaxed: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """An application's cancel: `certain` is the answer that it got; None where it got none."""

    uid: str
    fate: Fate
    at: float
    certain: bool | None = None


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that nothing may be sent to any more, for ever; what was asked for before may arrive."""

    marker: str
    fate: Fate
    at: float


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault: when it began and ended, and what it was. `gate`: which daemon's, where it concerns one; `behind`: those
    whose network it was, where that is known.
    """

    at: float
    until: float
    kind: str
    what: str
    gate: str | None = None
    behind: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` emails of the type within any `per` seconds."""

    type: str
    most: int
    per: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look at the server's sessions saw: the daemons' connections, and their oldest transaction in seconds."""

    at: float
    connections: int
    oldest: float
    note: str = ""


class Tail(NamedTuple):
    """What an asynchronous standby did not hear: from `first` until the primary `stopped`; by `last` it was promoted."""

    first: float
    stopped: float
    last: float


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant. `uid` or `marker` names the first offender."""

    rule: str
    text: str
    uid: str | None = None
    marker: str | None = None
    id: int | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class History:
    """All of it."""

    moves: Sequence[Move] = ()
    rows: Mapping[int, Row] = field(default_factory=dict)
    asks: Sequence[Ask] = ()
    inserts: Sequence[Insert] = ()
    cancels: Sequence[Cancel] = ()
    suppressions: Sequence[Suppression] = ()
    injected: Sequence[Injected] = ()
    limits: Sequence[Limit] = ()
    samples: Sequence[Sample] = ()
    leaks: Sequence[str] = ()
    aged: Mapping[str, float] = field(default_factory=dict)
    tails: Sequence[Tail] = ()
    holds: bool = False  # whether an operator decided about what a promotion may have sent
    crash_limit: int = 0  # crashes in a row after which an email is quarantined; 0: never
    steps: Sequence[tuple[float, float]] = ()  # of the server's clock: when, and by how many seconds
    late: int = 0  # acceptances that came after their lease, and were recorded as no more than that
    deadline: float = 1.0
    given_up: float = 7.0  # seconds in which the server ends what a daemon left open that was cut off
    most_connections: int = 1000
