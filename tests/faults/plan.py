"""What one run does: sizes, and the seeded list of faults in their order."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from outboxd.sink.options import FAULTS

from .toxics import KINDS

POINTS = (
    "startup", "claim_before_commit", "claim_commit_unanswered", "claim_done", "bind_before_commit",
    "bind_commit_unanswered", "bind_done", "ask_connect", "ask_part", "ask_unanswered", "ask_answered", "settle_begins",
    "settle_before_commit", "settle_commit_unanswered", "settle_done", "reclaim_before_commit",
    "reclaim_commit_unanswered", "reclaim_done",
)  # fmt: skip
SPECIALS = ("poison", "pinned", "crowded", "aged", "terminated", "sigterm")


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of one run. `rounds` end with healing and a drain; counts are per run.

    `relaxed`: no application waits for the disk at a commit, instead of every other one. `ordered`: faults come in the
    order of the fields and their values, whatever the seed. `think`: seconds that the provider takes for an answer.
    `disks`: Postgres lies on small file systems. `clocks`: it and the daemons run on clocks that can step. `limit`: the
    provider's requests a second, as it names them. `upgrades`: it begins with the previous release, and a quarter of the
    faults later the schema is this one's, and half of the daemons. `holds`: after a promotion what may have gone waits for an
    operator. `crash_limit`: crashes after which an email is quarantined, 0 for none. `drain`: seconds after healing in which all must have left, ten and two leases where leases of zombies and of
    what a pooler cut off may still last. `within`: seconds that the whole run may take.
    """

    name: str
    emails: int
    daemons: int
    rounds: int
    kills: int
    zombies: int
    immediate: int
    fast: int
    esp: tuple[str, ...]
    proxies: tuple[tuple[str, str], ...]
    specials: tuple[str, ...] = ()
    level: int = 1
    lasts: float = 1.5
    lease: float = 3.0
    pooler: bool = False
    disks: bool = False
    clocks: bool = False
    upgrades: bool = False
    holds: bool = False
    crash_limit: int = 0
    limit: int | None = None
    rate: float = 100.0
    share: float = 1.0
    relaxed: bool = False
    ordered: bool = False
    think: float = 0.02
    drain: float = 16.0
    within: float = math.inf


@dataclass(frozen=True, slots=True)
class Step:
    """One fault, and what of it."""

    kind: str
    what: str = ""


EVERY_PROXY = tuple((side, kind) for side in ("pg", "esp") for kind in KINDS)
SOME_ESP = ("accept-reset", "accept-hang", "500", "429", "truncated", "422")
PLANS = {
    "quick": Plan(
        "quick", emails=1200, daemons=3, rounds=1, kills=30, zombies=4, immediate=2, fast=0, esp=SOME_ESP,
        proxies=(("pg", "mid_commit_cut"), ("esp", "half_close"), ("pg", "mid_commit_cut")), specials=("aged",), lasts=1.0,
    ),
    "short": Plan(
        "short", emails=4000, daemons=4, rounds=2, kills=60, zombies=10, immediate=5, fast=2, esp=tuple(FAULTS),
        proxies=EVERY_PROXY, specials=SPECIALS, lasts=1.0, drain=10.0, within=300.0,
    ),
    "full": Plan(
        "full", emails=50_600, daemons=4, rounds=12, kills=1000, zombies=60, immediate=50, fast=12,
        esp=tuple(FAULTS) * 2, proxies=EVERY_PROXY * 2, specials=SPECIALS * 4, lasts=2.5, drain=10.0, within=1400.0,
    ),
    "pooler": Plan(
        "pooler", emails=2000, daemons=3, rounds=1, kills=36, zombies=4, immediate=3, fast=1, esp=SOME_ESP,
        proxies=(("pg", "mid_commit_cut"), ("pg", "reset_peer")), specials=("terminated", "sigterm"), pooler=True,
    ),
    "standby": Plan(
        "standby", emails=3000, daemons=3, rounds=1, kills=36, zombies=0, immediate=0, fast=0, esp=SOME_ESP,
        proxies=(), specials=("promotion synchronous",) * 5, drain=10.0,
    ),
    "tail": Plan(
        "tail", emails=3000, daemons=3, rounds=1, kills=36, zombies=0, immediate=0, fast=0, esp=SOME_ESP,
        proxies=(), specials=("promotion asynchronous",) * 5, drain=10.0,
    ),
    "disk": Plan(
        "disk", emails=2500, daemons=3, rounds=1, kills=20, zombies=2, immediate=0, fast=0, esp=SOME_ESP,
        proxies=(("pg", "mid_commit_cut"),), specials=("disk data", "disk wal") * 2, lasts=2.0, disks=True,
    ),
    "clock": Plan(
        "clock", emails=1600, daemons=3, rounds=1, kills=36, zombies=2, immediate=1, fast=0, esp=SOME_ESP, proxies=(),
        specials=("clock server 30", "clock server 600", "clock daemon", "clock daemon", "clock daemon", "clock daemon"),
        clocks=True, limit=300, rate=40.0,
    ),
    "upgrade": Plan(
        "upgrade", emails=3000, daemons=4, rounds=1, kills=40, zombies=3, immediate=2, fast=1, esp=SOME_ESP,
        proxies=(("pg", "mid_commit_cut"), ("esp", "half_close")), specials=("terminated",), upgrades=True,
    ),
    "held": Plan(
        "held", emails=3000, daemons=3, rounds=1, kills=36, zombies=0, immediate=0, fast=0, esp=SOME_ESP,
        proxies=(), specials=("promotion asynchronous",) * 5, drain=10.0, holds=True,
    ),
    "suspects": Plan(
        "suspects", emails=1500, daemons=3, rounds=2, kills=40, zombies=0, immediate=1, fast=1, esp=SOME_ESP,
        proxies=(), crash_limit=3,
    ),
    "zombies": Plan(
        "zombies", emails=20_000, daemons=6, rounds=5, kills=0, zombies=500, immediate=0, fast=0, esp=(), proxies=(),
    ),
}  # fmt: skip


def scaled(plan: Plan, share: float) -> Plan:
    """A share of a plan's emails, kills, zombies and crashes; every kind of fault stays."""
    counts = {
        name: math.ceil(getattr(plan, name) * share)
        for name in ("emails", "rounds", "kills", "zombies", "immediate", "fast")
    }
    return replace(plan, **counts)


def steps(plan: Plan, seed: int) -> Iterator[list[Step]]:
    """The faults of each round, in a seeded order that mixes all kinds."""
    luck = random.Random(seed)
    every = [
        Step("kill", POINTS[n // 2 % len(POINTS)] if n % 2 == 0 else "random") for n in range(plan.kills)
    ]
    every += [Step("zombie")] * plan.zombies
    every += [Step("postgres", "immediate")] * plan.immediate + [Step("postgres", "fast")] * plan.fast
    every += [Step("esp", kind) for kind in plan.esp]
    every += [Step(f"proxy {side}", kind) for side, kind in plan.proxies]
    every += [Step(kind) for kind in plan.specials]
    if not plan.ordered:
        luck.shuffle(every)
    if plan.upgrades:
        every.insert(len(every) // 4, Step("upgrade"))
    size = -(-len(every) // plan.rounds)
    for number in range(plan.rounds):
        yield every[number * size : (number + 1) * size]
