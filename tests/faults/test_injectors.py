"""A fault that met nobody is tried again, in calm: else a seed could be red for want of a victim."""

import contextlib
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from . import injectors, specials
from .injectors import Injector
from .plan import Step

KILL = Injector.kill
CUT, HANG = Step("proxy esp", "drop_after_n_bytes"), Step("esp", "hang")


class Proxies:
    """Whose faults meet a connection from the second time on."""

    def __init__(self, meets_from: int) -> None:
        self.network = SimpleNamespace(struck=Counter())
        self.begun, self.meets_from = [], meets_from

    def begin(self, side: str, kind: str, _: int) -> None:
        self.begun.append(Step(f"proxy {side}", kind))
        self.network.struck[side, kind] += len(self.begun) >= self.meets_from

    def met(self, side: str, kind: str) -> int:
        return self.network.struck[side, kind]

    def end(self, side: str) -> None:
        pass


class Provider:
    """Who meets a request under a fault from the second time on."""

    def __init__(self) -> None:
        self.entries, self.asked = [SimpleNamespace(fault=HANG.what, at=0.0)] * 2, []

    def control(self, options) -> None:
        for fault in options["faults"]:
            self.asked.append(fault.kind)
            if len(self.asked) > 1:
                self.entries = [SimpleNamespace(fault=fault.kind, at=time.time())]  # older ones are forgotten


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(injectors, "PATIENCE", 0.0)
    marks: Counter[str] = Counter()

    def note(kind: str, what: str, *_: float, **__: object) -> None:
        marks[f"{kind} {what}"] += 1

    @contextlib.contextmanager
    def connect(_: str):
        yield SimpleNamespace(execute=said.append)

    said: list[str] = []
    monkeypatch.setattr(Injector, "kill", lambda *_: None)
    return SimpleNamespace(
        said=said, connect=connect,
        proxies=Proxies(2), running=SimpleNamespace(provider=Provider()), applications=[], marks=marks, note=note,
        fleet=SimpleNamespace(slots=[]), plan=SimpleNamespace(level=1, lasts=0.01),
    )  # fmt: skip


def test_of_the_network(world):
    injector = Injector(world, 1)
    injector.run(CUT)
    injector.try_missed()
    assert world.proxies.begun == [CUT, CUT]


def test_after_the_account_was_resumed_which_refusals_had_slowed_down(world):
    injector = Injector(world, 1)
    injector.run(CUT)
    injector.try_missed()
    assert specials.FORGET_RATE in world.said


def test_of_the_provider(world):
    injector = Injector(world, 1)
    injector.run(HANG)
    injector.try_missed()
    assert (world.running.provider.asked, world.marks["esp hang"]) == (["hang", "hang"], 1)


def test_what_met_somebody_is_not_tried_again(world):
    world.proxies.meets_from = 1
    injector = Injector(world, 1)
    injector.run(CUT)
    injector.try_missed()
    assert world.proxies.begun == [CUT]


def test_what_never_meets_anybody_ends(world):
    world.proxies.meets_from = 1000
    injector = Injector(world, 1)
    injector.run(CUT)
    injector.try_missed()
    assert world.proxies.network.struck["esp", CUT.what] == 0
    assert len(world.proxies.begun) > 2


class Daemon:
    """Who comes to a point as soon as it is armed, if anybody does."""

    def __init__(self, *, comes: bool) -> None:
        self.stopped, self.mortal, self.comes = False, True, comes
        self.fired, self.armed = threading.Event(), []

    def arm(self, point: str) -> None:
        self.armed.append(point)
        if self.comes:
            self.fired.set()

    def disarm(self) -> bool:
        return self.fired.is_set()


def test_a_point_to_which_one_daemon_did_not_come_waits_for_any_of_them(world, monkeypatch):
    monkeypatch.setattr(Injector, "kill", KILL)
    slots = [Daemon(comes=number == 3) for number in range(4)]
    started = []
    world.fleet = SimpleNamespace(slots=slots, start=lambda slot, **_: started.append(slot))
    injector = Injector(world, 1)
    injector.missed.append(Step("kill", "bind_done"))
    injector.try_missed()
    assert [slot.armed for slot in slots] == [["bind_done"]] * 4
    assert (started, world.marks["kill bind_done"]) == ([slots[3]], 1)
