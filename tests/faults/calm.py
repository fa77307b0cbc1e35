"""After a storm: whether the daemons have healed, beside the mail that has drained (L2 to L6)."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from waiting import until

from .history import Violation

if TYPE_CHECKING:
    from .daemons import Slot
    from .world import World

HEALED_WITHIN = 10.0  # seconds after healing: L3 and L6
CLAIMED_WITHIN = 2.0  # seconds: L2 to ask, L4 to settle
# One for each thread of a daemon, and what its binder makes a batch of.
LOTS = (("welcome", 8), ("newsletter", 20))
LISTENED = 10.0  # seconds in which no daemon may complain: L6
LISTENERS = "select count(*) from pg_stat_activity where application_name = 'outboxd listener'"


def judge(world: "World", healed_at: float, *, bell: bool) -> list[Violation]:
    """What is not healed. `healed_at` is monotonic; without `bell` the daemons poll, behind a pooler."""
    until(lambda: time.monotonic() >= healed_at + HEALED_WITHIN, within=HEALED_WITHIN + 1, what="calm")
    heard_from = time.monotonic()
    said = {slot.log: slot.log.stat().st_size for slot in world.fleet.slots}
    found = [*_deaf(world)] if bell else []
    found += each_alone(world)
    world.drain(CLAIMED_WITHIN)
    until(lambda: time.monotonic() >= heard_from + LISTENED, within=LISTENED + 1, what="ten seconds of calm")
    for slot in world.fleet.slots:
        if (code := world.fleet.ended(slot)) is not None:
            found.append(Violation("L6", f"daemon {slot.number} ended ({code}) after all had healed"))
    for log, size in said.items():
        found += cries(log.read_bytes()[size:].decode("utf-8", "replace"))
    return found


def _deaf(world: "World") -> Iterator[Violation]:
    with world.connect() as conn:
        listening = conn.execute(LISTENERS).fetchone()[0]
    if listening < len(world.fleet.slots):
        yield Violation(
            "L3", f"{listening} of {len(world.fleet.slots)} daemons listen after {HEALED_WITHIN} s"
        )


def each_alone(world: "World") -> list[Violation]:
    """Each daemon asks for what is inserted now, and settles it."""
    return [violation for slot in world.fleet.slots for violation in _alone(world, slot)]


def _alone(world: "World", slot: "Slot") -> Iterator[Violation]:
    """The others stand still, so that it is this one: with single emails, and with as many as make a batch."""
    others = [other for other in world.fleet.slots if other is not slot]
    for other in others:
        other.signal(signal.SIGSTOP)
    try:
        for kind, number in LOTS:
            wanted, late = world.insert_now(number, kind), f"{number} of {kind} within {CLAIMED_WITHIN} s"
            if not _in_time(partial(_asked, world, wanted)):
                yield Violation("L2", f"daemon {slot.number} did not ask for {late}", marker=min(wanted))
                return
            if not _in_time(partial(world.settled, wanted)):
                yield Violation("L4", f"daemon {slot.number} did not settle {late}", marker=min(wanted))
                return
    finally:
        for other in others:
            other.signal(signal.SIGCONT)


def _asked(world: "World", wanted: set[str]) -> bool:
    return wanted <= world.asked_for()


def _in_time(done: Callable[[], bool]) -> bool:
    try:
        return bool(until(done, within=CLAIMED_WITHIN, what="it"))
    except AssertionError:
        return False


def cries(log: str) -> Iterator[Violation]:
    """Errors of daemons that have had time to heal."""
    for line in log.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            yield Violation("L6", f"a daemon wrote what is no line of its log: {line[:200]}")
            continue
        if said.get("level") in {"error", "critical"}:
            yield Violation("L6", f"a daemon complained after all had healed: {line[:300]}")
