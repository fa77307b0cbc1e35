"""The faults that a run injects, each a step that ends by itself or is ended by `heal`. Each is logged when it struck."""

import heapq
import itertools
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from outboxd.sink.options import Fault

from . import specials
from .daemons import Slot
from .plan import Step
from .world import World

SHARES = {
    "hang": 0.15,
    "accept-hang": 0.15,
    "drip": 0.15,
    "slow": 0.15,
    "huge": 0.2,
    "revoked": 0.1,
    "domain": 0.05,
}
SHARE = 0.2
ARGUMENTS = {"slow": 0.5, "429": 1.0}
BY_CONTENT = {"400", "422"}  # a verdict on the email: the same at each ask, unlike the others
PATIENCE = 20.0  # seconds in which a fault of the provider must meet a request
UNREACHED = "outboxd: cannot reach the database"  # what `outboxd run` says last, and exits with 1
AGAIN = "tried again: "
POINT_WITHIN = 2.0  # seconds that a daemon gets to come to the point where it dies

ASLEEP_AT = ("ask_unanswered", "ask_answered", "settle_begins")


@dataclass(slots=True)
class Injector:
    """Runs steps on the main thread; what lasts is ended by `expire`."""

    world: World
    seed: int
    luck: random.Random = field(init=False)
    ends: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    count: itertools.count = field(default_factory=itertools.count)
    busy: set[str] = field(default_factory=set)
    missed: list[Step] = field(default_factory=list)
    kills: int = 0

    def __post_init__(self) -> None:
        self.luck = random.Random(self.seed)

    def run(self, step: Step) -> None:
        self.expire()
        self.all_run()
        match step.kind:
            case "kill":
                self.kill(step.what)
            case "zombie":
                self._zombie()
            case "postgres":
                self._postgres(step.what)
            case "esp":
                self._esp(step.what)
            case "proxy pg" | "proxy esp":
                self._proxy(step.kind[6:], step.what)
            case special:
                specials.RUN[special](self)

    def expire(self) -> None:
        """End the faults whose time is over."""
        while self.ends and self.ends[0][0] <= time.monotonic():
            heapq.heappop(self.ends)[2]()

    def wait_free(self, what: str) -> None:
        """Until no fault of this kind is at work any more; "" for any."""
        while what in self.busy or (self.ends and not what):
            threading.Event().wait(0.02)
            self.expire()

    def later(self, seconds: float, end: Callable[[], None]) -> None:
        heapq.heappush(self.ends, (time.monotonic() + seconds, next(self.count), end))

    def running(self) -> list[Slot]:
        return [slot for slot in self.world.fleet.slots if not slot.stopped and slot.mortal]

    def try_missed(self) -> None:
        """Once more, and in calm: points of the path to which nobody came, and faults that met nobody."""
        for _ in range(12):
            self.wait_free("")
            wanted = [step for step in dict.fromkeys(self.missed) if not self._struck(step)]
            self.missed.clear()
            if wanted:
                self.resume()  # who was slowed down by refusals comes to few points
            for step in wanted:
                self.world.marks[f"{AGAIN}{step.kind} {step.what}"] += 1
                self.wait_free("")
                if step.what.startswith("reclaim"):
                    self.kill("random")  # who leaves a lease behind, which runs out first
                    self.kill(step.what, within=self.world.plan.lease + POINT_WITHIN)
                elif step.kind == "kill":
                    self.kill(step.what, anyone=True)
                else:
                    self.run(step)
                    if step.kind.startswith("proxy"):  # some faults only meet a connection that ends
                        self.kill("random")

    def _struck(self, step: Step) -> bool:
        if step.kind.startswith("proxy"):  # its mark says only that it was tried
            return self.world.proxies.network.struck[step.kind[6:], step.what] > 0
        return self.world.marks[f"{step.kind} {step.what}".strip()] > 0

    def heal(self) -> None:
        """End every fault, resume what faults made the daemons pause, and see that all daemons run."""
        self.wait_free("")
        self.all_run()
        self.resume()

    def all_run(self) -> None:
        """Start again, as a service manager does, what could not reach the database at its start. Nothing else may end."""
        refused = [text for app in self.world.applications for text in app.refused]
        assert not refused, f"an application was refused: {refused[0]}"
        for slot in self.world.fleet.slots:
            if (code := self.world.fleet.ended(slot)) is None:
                continue
            told = slot.log.read_text("utf-8", "replace")
            refused_at_start = told.rstrip().rpartition("\n")[2].startswith(UNREACHED)
            assert (code, refused_at_start) == (1, True), (
                f"daemon {slot.number} ended ({code}): {told[-3000:]}"
            )
            self.world.marks["restarted"] += 1
            self.world.fleet.start(slot)

    def kill(self, point: str, *, within: float = POINT_WITHIN, anyone: bool = False) -> None:
        """One daemon, at a point of the path: the one that was drawn, or `anyone` who comes there first."""
        candidates = self.running()
        while len(candidates) < 2:
            threading.Event().wait(0.05)
            self.expire()
            candidates = self.running()
        slot = self.luck.choice(candidates)
        began, what = time.time(), point
        if point in {"startup", "ask_connect"}:
            slot.kill()
            self.world.fleet.start(slot)
        if point == "random":
            threading.Event().wait(self.luck.uniform(0.0, 0.2))
            slot.kill()
        else:
            # Whose reclaimer comes first is not known.
            armed = candidates if anyone or point.startswith("reclaim") else [slot]
            dead = self._come_to(point, armed, within)
            if not dead:
                what = "random"
                slot.kill()
                self.missed.append(Step("kill", point))
            for other in dead[1:]:
                self.world.fleet.start(other)
            slot = dead[0] if dead else slot
        self.kills += 1
        self.world.note("kill", what, began)
        self.world.fleet.start(slot, cold=self.kills % 10 == 0)

    def _come_to(self, point: str, slots: list[Slot], within: float) -> list[Slot]:
        """Those that died at this point, at least one unless none came there in time."""
        for slot in slots:
            slot.arm(point)
        ends = time.monotonic() + within
        while time.monotonic() < ends and not any(slot.fired.is_set() for slot in slots):
            threading.Event().wait(0.005)
        return [slot for slot in slots if slot.disarm()]

    def _zombie(self) -> None:
        """Stop one daemon for longer than its lease: most often with an answer on the way that will be lost, with one
        that it has, or with a settle begun. The latter two come back with an acceptance whose lease is another's.
        """
        candidates = self.running()
        while len(candidates) < 2:
            threading.Event().wait(0.05)
            self.expire()
            candidates = self.running()
        slot, began = self.luck.choice(candidates), time.time()
        lasts = self.world.plan.lease * self.luck.uniform(1.2, 1.6)
        if self.luck.random() < 0.8:
            slot.fired.clear()
            slot.with_signal, slot.armed = signal.SIGSTOP, self.luck.choice(ASLEEP_AT)
            slot.fired.wait(POINT_WITHIN)
            slot.armed, slot.with_signal = None, signal.SIGKILL
        slot.signal(signal.SIGSTOP)
        self.world.marks["zombie"] += 1

        def wake() -> None:
            slot.signal(signal.SIGCONT)
            self.world.note("zombie", f"daemon {slot.number}", began, gate=slot.gate)

        self.later(lasts, wake)
        threading.Event().wait(0.3)

    def _postgres(self, mode: str) -> None:
        began = time.time()
        self.world.postgres.stop("fast" if mode == "fast" else "immediate")
        threading.Event().wait(self.luck.uniform(0.0, 0.3))
        self.world.postgres.start()
        self.world.note("postgres", mode, began)
        threading.Event().wait(self.luck.uniform(0.1, 0.8))

    def _esp(self, kind: str) -> None:
        """A share of requests meets the fault, until it struck at least once."""
        self.wait_free("esp fault")
        provider, began = self.world.running.provider, time.time()
        share = min(1.0, SHARES.get(kind, SHARE) * self.world.plan.level)
        faults = () if kind in BY_CONTENT else (Fault(kind, share, ARGUMENTS.get(kind)),)
        self._bad(kind if kind in BY_CONTENT else "")
        provider.control({"faults": faults})
        self.busy.add("esp fault")

        def end() -> None:
            struck = self._met_request(kind, began)
            if not struck and time.time() < began + PATIENCE:
                if faults:
                    provider.control({"faults": (Fault(kind, 1.0, ARGUMENTS.get(kind)),)})
                self.later(0.3, end)
                return
            self._bad("")
            provider.control({"faults": ()})
            self.busy.discard("esp fault")
            if struck:
                self.world.note("esp", kind, began)
            else:
                self.missed.append(Step("esp", kind))

        self.later(self.world.plan.lasts, end)

    def _bad(self, kind: str) -> None:
        for app in self.world.applications:
            app.bad = kind

    def _met_request(self, kind: str, since: float) -> bool:
        """Ids that are fewer than the emails: only where there was more than one."""
        entries = list(self.world.running.provider.entries)
        return any(
            entry.fault == kind and entry.at >= since and (kind != "fewer-ids" or len(entry.uids) > 1)
            for entry in entries
        )

    def resume(self) -> None:
        """What a person does once the provider is well again."""
        with self.world.connect("faults") as conn:
            conn.execute("select outboxd.resume(kind, key) from outboxd.pause")
            conn.execute("select outboxd.resume('breaker', account) from outboxd.breaker")
            conn.execute(specials.FORGET_RATE)

    def _proxy(self, side: str, kind: str) -> None:
        for one in ("pg", "esp") if kind == "syn_refuse" else (side,):  # a refusal does not say at which port
            self.wait_free(one)
        began, proxies = time.time(), self.world.proxies
        before = proxies.network.struck[side, kind]
        behind = proxies.begin(side, kind, self.world.plan.level)
        self.busy.add(side)

        def end() -> None:
            met = proxies.met(side, kind) > before
            if not met and time.time() < began + PATIENCE:
                self.later(0.3, end)
                return
            if not met:
                self.missed.append(Step(f"proxy {side}", kind))
            proxies.end(side)
            self.busy.discard(side)
            self.world.note(f"proxy {side}", kind, began, behind=behind)

        self.later(self.world.plan.lasts, end)
