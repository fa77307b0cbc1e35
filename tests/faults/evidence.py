"""Gather a run's evidence into a history."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from .daemons import KEY
from .history import Ask, History, Move, Row
from .world import LIMITS, World

MOVES = """
select n, extract(epoch from at)::float8, xid, who, place, gone, ids, tag, extract(epoch from until)::float8,
  gate, uptime
from faults.move order by n
"""
ROWS = """
select email.id, email.uid::text, email.recipients[1], email.type, email.dedupe_key,
  coalesce(delivery.state, case dead_letter.certainty when 'not_accepted' then 'dead' when 'maybe_accepted' then 'unknown' end),
  delivery.provider_id, coalesce(delivery.attempts, dead_letter.attempts, 0), dead_letter.error_class,
  extract(epoch from email.expires_at)::float8, email.max_attempts
from outboxd.email
left join outboxd.delivery on delivery.id = email.id
left join outboxd.dead_letter on dead_letter.id = email.id
"""
TRANSACTION_TIMEOUT = {
    False: 6.0,
    True: 20.0,
}  # seconds, without a pooler and behind one: schema/path_settings
CLOSE = 0.2  # seconds in which a healthy network and the provider take a request in
DELAYED = 8.0  # and a slow network
CONNECTIONS = 9  # of one daemon, at most; one more daemon's are those that restarts leave behind for a moment


def history(world: World) -> History:
    """All that is known, after the last drain."""
    with world.connect() as conn:
        moves = [_move(row, stepped=world.clocks is not None) for row in conn.execute(MOVES).fetchall()]
        rows = {row[0]: Row(*row) for row in conn.execute(ROWS).fetchall()}
        (late,) = conn.execute("select count(*) from outboxd.attempt where not fenced").fetchone()
    passed = _passed(world)
    asks = [
        Ask(
            e.n,
            e.at,
            e.key,
            e.sha256,
            tuple(e.uids),
            tuple(e.to),
            e.verdict,
            tuple(e.provider_ids),
            e.fault,
            _who_asked(passed[e.key], e.at),
        )
        for e in list(world.running.provider.entries)
        if e.verdict != "read"
    ]
    return History(
        moves=moves,
        rows=rows,
        asks=asks,
        inserts=[insert for app in world.applications for insert in app.record.inserts],
        cancels=[cancel for app in world.applications for cancel in app.record.cancels],
        suppressions=[one for app in world.applications for one in app.record.suppressions],
        injected=sorted(world.injected, key=lambda fault: fault.at),
        limits=[limit for limit in LIMITS if any(row.type == limit.type for row in rows.values())],
        samples=world.samples,
        leaks=list(leaks(world)),
        aged=world.aged,
        tails=world.tails,
        holds=world.plan.holds,
        crash_limit=world.plan.crash_limit,
        steps=world.clocks.steps if world.clocks else (),
        late=late,
        given_up=TRANSACTION_TIMEOUT[world.plan.pooler] + 1.0,
        most_connections=CONNECTIONS * (len(world.fleet.slots) + 1),
    )


def _passed(world: World) -> dict[str, list[tuple[float, str]]]:
    """By key, when each daemon's proxy before the provider saw it."""
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for gate in world.proxies.gates:
        for at, key in gate.keys:
            found[key].append((at, gate.owner))
    return found


def _who_asked(passed: Sequence[tuple[float, str]], at: float) -> frozenset[str]:
    """Whose request this may be: of those that passed just before it arrived, else of those that a slow network delayed."""
    just, longer = (
        frozenset(gate for began, gate in passed if began <= at <= began + within)
        for within in (CLOSE, DELAYED)
    )
    return just or longer


def _move(row: Sequence, *, stepped: bool) -> Move:
    """A move as it was recorded; where the server's clock steps, by the time that does not."""
    *values, uptime = row
    values[6] = tuple(values[6])
    move = Move(*values)
    if not stepped:
        return move
    ahead = move.at - (time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + uptime)
    return move._replace(
        at=move.at - ahead, until=None if move.until is None else move.until - ahead, ahead=ahead
    )


def leaks(world: World) -> Iterator[str]:
    """Planted secrets and addresses in the daemons' logs, arguments, environment, and in the server's view of them."""
    planted = {"the API key": KEY, "a reset link": "token=planted-7c1e", "an address": "@example1.org"}
    for slot in world.fleet.slots:
        log = "".join(log.read_text("utf-8", "replace") for log in slot.logs)
        for what, secret in planted.items():
            if secret in log:
                place = log.index(secret)
                yield f"{what} in the log of daemon {slot.number}: …{log[max(0, place - 200) : place + 40]!r}"
    for slot in world.fleet.slots:
        for file in ("cmdline", "environ"):
            try:
                if KEY.encode() in Path(f"/proc/{slot.pid}/{file}").read_bytes():
                    yield f"the API key in {file} of daemon {slot.number}"
            except OSError:
                continue
    with world.connect() as conn:
        for (query,) in conn.execute("select query from pg_stat_activity where query is not null").fetchall():
            if any(secret in query for secret in planted.values()):
                yield f"a planted secret in pg_stat_activity: {query[:80]!r}"
