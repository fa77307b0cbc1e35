"""One run from beginning to end: faults, healing, draining, judging."""

import json
import math
import os
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from outboxd.sink.options import SinkOptions
from outboxd.sink.server import running_sink

from . import calm, evidence
from .checker import check, last_to_leave, summary, timeline
from .history import History, Injected, Violation
from .injectors import AGAIN, Injector
from .plan import PLANS, POINTS, Plan, Step, steps
from .rules_ledger import fullest
from .tails import named, split
from .upgrade import idle
from .world import LIMITS, World

SLOW = 5.0  # seconds of a drain, from which on the last to leave is told of
BINDING = 20_000  # emails of a run in which each limit must have held something back
ENOUGH = 0.99  # of the emails planned
ROBBED = 3.0  # seconds after a zombie woke in which its lease may be reclaimed, whom it stopped: a lease
MOST_OF = 0.8  # of all emails must be sent, whatever the faults
ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Report:
    """What came of it. `violations` and `vacuous` are empty where the run is green."""

    plan: str
    seed: int
    level: int = 1
    share: float = 1.0
    tree: Path = ROOT
    before: Path | None = None
    violations: list[Violation] = field(default_factory=list)
    unhealed: list[Violation] = field(default_factory=list)
    excused: list[Violation] = field(default_factory=list)
    vacuous: list[str] = field(default_factory=list)
    failure: str = ""
    history: History = field(default_factory=History)
    marks: Counter[str] = field(default_factory=Counter)
    drains: list[float] = field(default_factory=list)
    drained_at: float = math.inf
    seconds: float = 0.0
    figures: dict[str, object] = field(default_factory=dict)

    @property
    def green(self) -> bool:
        return not (self.violations or self.vacuous or self.failure)


def run(name: str, seed: int, *, tree: Path = ROOT, say=print) -> Report:
    """A whole run of a plan; what it finds is in the report, whatever happens."""
    return run_plan(PLANS[name], seed, tree=tree, say=say)


def run_plan(plan: Plan, seed: int, *, tree: Path = ROOT, before: Path | None = None, say=print) -> Report:
    report, began = Report(plan.name, seed, plan.level, plan.share, tree, before), time.monotonic()
    options = SinkOptions(port=0, rate_limit=plan.limit, think_time=plan.think, seed=seed, keep=1000)
    with running_sink(options) as running, World(plan, seed, tree.resolve(), running, before=before) as world:
        try:
            _storm(world, plan, seed, report, say)
        except (AssertionError, psycopg.Error) as error:
            report.failure = f"{type(error).__name__}: {error}"
            say(f"failed: {report.failure}")  # now: where the server is gone, no evidence can be gathered
        for app in world.applications:
            app.give_up()
            app.thread.join(10)
            if app.refused:
                report.failure += f"; an application was refused: {app.refused[0]}"
        report.history = evidence.history(world)
        report.marks = world.marks
        report.marks.update(
            {f"struck {side} {kind}": n for (side, kind), n in world.proxies.network.struck.items()}
        )
        report.violations, report.excused = split(report.history, check(report.history))
        report.violations += report.unhealed
        report.vacuous = list(vacuous(plan, seed, world))
        windows = fullest(report.history)
        report.vacuous += small(plan, report.history, windows)
        if world.tails and not report.excused:
            report.vacuous.append("a tail: nothing was lost with a promotion")
        if plan.holds and not world.held:
            report.vacuous.append("an email that was held back")
        if plan.upgrades:
            report.vacuous += idle(world, report.history)
        report.figures = figures(report, windows)
        if plan.holds:
            report.figures["held"] = world.held
        report.figures["tried_again"] = {
            mark.removeprefix(AGAIN): n for mark, n in world.marks.items() if mark.startswith(AGAIN)
        }
        if world.recoveries:
            report.figures["accepted_again_after"] = [round(took, 1) for took in world.recoveries]
    report.seconds = time.monotonic() - began
    if report.seconds > plan.within:
        report.failure += f"; it took {report.seconds:.0f} s, {plan.within:g} are allowed"
    return report


def _storm(world: World, plan: Plan, seed: int, report: Report, say) -> None:
    injector = Injector(world, seed)
    for slot in world.fleet.slots:
        world.fleet.start(slot)
    planned = list(steps(plan, seed))
    log = say if os.environ.get("FAULTS_VERBOSE") else str
    world.start_applications(rate=plan.rate)
    for number, round_ in enumerate(planned, 1):
        began = time.monotonic()
        for step in round_:
            log(f"{time.monotonic() - began:.1f} {step.kind} {step.what}")
            injector.run(step)
        injector.try_missed()
        last = number == len(planned)
        if last:
            _finish_inserting(world, injector)
        world.rest(resting=not last)
        world.running.provider.control({"counted_faults": False})  # which healing would not end
        injector.heal()
        healed_at = time.monotonic()
        took = world.drain(plan.drain)
        report.drains.append(took)
        report.drained_at = time.time()
        report.unhealed += (
            calm.judge(world, healed_at, bell=not plan.pooler) if last else calm.each_alone(world)
        )
        world.running.provider.control({"counted_faults": True})
        world.rest(resting=False)
        say(f"round {number}/{len(planned)}: {time.monotonic() - began:.1f} s, drained in {took:.1f} s")


def _finish_inserting(world: World, injector: Injector) -> None:
    """Let applications end their share while the daemons go on dying."""
    injector.wait_free("")
    world.app_stop.set()
    while any(app.thread.is_alive() for app in world.applications):
        injector.run(Step("kill", "random"))


def vacuous(plan: Plan, seed: int, world: World) -> list[str]:
    """Faults that were planned and never struck."""
    wanted: set[str] = set()
    for round_ in steps(plan, seed):
        for step in round_:
            wanted.add(
                {"kill": f"kill {step.what}", "zombie": "zombie"}.get(
                    step.kind, f"{step.kind} {step.what}".strip()
                )
            )
    missing = [name for name in sorted(wanted) if not world.marks[name]]
    for side, kind in set(plan.proxies):
        if not world.proxies.network.struck[side, kind]:
            missing.append(f"proxy {side} {kind} met no connection")
    return missing


def robbed(history: History) -> list[Injected]:
    """The zombies that lost a lease while they stood still, or just after."""
    leases = [move for move in history.moves if move.place == "lease"]
    owner = {move.tag: move.gate for move in leases if not move.gone}
    lost = [
        (move.at, owner.get(move.tag)) for move in leases if move.gone and move.who == "outboxd reclaimer"
    ]
    return [
        fault
        for fault in history.injected
        if fault.kind == "zombie"
        and any(fault.at <= at <= fault.until + ROBBED and gate in {fault.gate, None} for at, gate in lost)
    ]


def crashed(history: History) -> set[int]:
    """Emails that were reclaimed, and are in a lease later."""
    left: set[int] = set()
    again: set[int] = set()
    for move in history.moves:
        if move.place == "lease" and not move.gone:
            again |= left.intersection(move.ids)
        elif move.place == "lease" and move.who == "outboxd reclaimer":
            left.update(move.ids)
    return again


def small(plan: Plan, history: History, windows: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """What was planned and fell short."""
    kinds = Counter(fault.kind for fault in history.injected)
    crashes = sum(fault.what == "immediate" for fault in history.injected)
    ends = Counter(row.end for row in history.rows.values())
    committed = sum(insert.fate == "acked" and not insert.duplicate for insert in history.inserts)
    for name, seen, planned in (
        ("emails", committed, plan.emails * ENOUGH),
        ("kills", kinds["kill"], plan.kills),
        ("crashes of Postgres", crashes, plan.immediate),
        ("emails sent", ends["sent"], len(history.rows) * MOST_OF),
        ("zombies", kinds["zombie"], plan.zombies),
        ("acceptances that came after their lease", history.late, plan.zombies // 50),
        ("zombies that lost a lease", len(robbed(history)), plan.zombies // 2),
    ):
        if seen < planned:
            yield f"{name}: {seen}, of {planned:g} at least"
    if plan.crash_limit and len(found := crashed(history)) < plan.kills // 4:
        yield f"emails that were in hand at a crash and were claimed again: {len(found)}"
    for limit in LIMITS if plan.emails >= BINDING else ():
        held = windows[limit.type]["judged"] if limit.type in windows else 0
        if held < limit.most:
            yield f"a full window of type {limit.type}: {held} at most, of {limit.most}"


def figures(report: Report, windows: Mapping[str, Mapping[str, int]]) -> dict[str, object]:
    history = report.history
    verdicts = Counter(ask.verdict for ask in history.asks)
    fates = Counter(insert.fate for insert in history.inserts)
    ends = Counter(row.end for row in history.rows.values())
    kinds = Counter(fault.kind for fault in history.injected)
    return {
        "emails": len(history.rows), "inserts": dict(fates), "ends": {str(end): n for end, n in ends.items()},
        "requests": dict(verdicts), "faults": dict(kinds), "moves": len(history.moves),
        "zombies that lost a lease": len(robbed(history)), "acceptances after their lease": history.late, "drained_in": [round(took, 1) for took in report.drains],
        "claimed again after a crash": len(crashed(history)), "quarantined": sum(row.error_class == "crash_limit" for row in history.rows.values()),
        "fullest windows": windows,
        "connections": max((sample.connections for sample in history.samples), default=0),
        "kills at points": {point: report.marks[f"kill {point}"] for point in POINTS},
    }  # fmt: skip


def tell(report: Report, say=print) -> None:
    """The outcome for people: figures, the first offender's timeline, and how to see it again."""
    say(json.dumps(report.figures))
    for missing in report.vacuous:
        say(f"never struck: {missing}")
    if report.excused:
        say(f"lost with the tails: {summary(report.excused)}")
        for line in named(report.history, report.excused):
            say(f"  {line}")
    if report.violations:
        say(f"broken: {summary(report.violations)}")
        firsts = {violation.rule: violation for violation in reversed(report.violations)}
        for violation in firsts.values():
            say(f"  {violation.rule}: {violation.text} (email {violation.id}, uid {violation.uid})")
        for violation in list(firsts.values())[:-4:-1]:
            for line in timeline(report.history, violation):
                say(line)
    slow = max(report.drains, default=0.0) > SLOW
    if (slow or report.failure) and (last := last_to_leave(report.history, report.drained_at)) is not None:
        for line in timeline(report.history, last):
            say(line)
    if report.failure:
        say(f"failed: {report.failure}")
    verdict = "green" if report.green else "RED"
    say(f"{verdict}: plan {report.plan}, seed {report.seed}, {report.seconds:.0f} s")
    if not report.green:
        say(f"again: {again(report)}")


def again(report: Report) -> str:
    """The command that repeats a run, with the trees where they are not this one and what history says."""
    command = ["python", "-m", "tests.faults", "--seed", str(report.seed), "--profile", report.plan]
    command += ["--level", str(report.level), "--share", f"{report.share:g}"]
    if report.tree.resolve() != ROOT.resolve():
        command += ["--tree", str(report.tree.resolve())]
    if report.before is not None:
        command += ["--previous", str(report.before.resolve())]
    return shlex.join(command)


__all__ = ["POINTS", "Report", "run", "run_plan", "tell"]
