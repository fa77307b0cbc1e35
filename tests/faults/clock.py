"""Clocks that step: the server's, and those of single daemons, under libfaketime. Monotonic time stays what it is.

Each clock reads its offset from a file of its own at every look. The server's clock is never healed by a step back:
what fell due by the later clock would wait for it. It goes back, comes forward to where it was, and again as far.
"""

import json
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from host.needs import NEEDS, remedy
from waiting import until

from outboxd.localpg import LocalPostgres
from outboxd.sink.options import Fault

from .unfit import UnfitError

if TYPE_CHECKING:
    from .daemons import Slot
    from .injectors import Injector
    from .world import World

SLACK = 3.0  # seconds by which a stepped clock may miss its offset, reading and asking included
HOLDS = 3.0  # seconds that a step lasts
FRESH_WITHIN = 5.0  # seconds in which mail that was inserted after a step must be asked for
CLAIMS = "select exists (select from faults.move where n > %s and place = 'lease' and not gone and gate = %s)"
STEPS_OF_DAEMONS = (7200, -7200, 600, -45)  # seconds


class Clocks:
    """The files of offsets below `home`, and what makes a process read one."""

    def __init__(self, home: Path) -> None:
        library = NEEDS["libfaketime"].find()
        if library is None:
            raise UnfitError(f"this host has no libfaketime: {remedy(['libfaketime'])}")
        self._home, self._library = home, library.replace("libfaketime.so", "libfaketimeMT.so")
        self.server = 0.0  # what its clock is ahead now
        self.steps: list[tuple[float, float]] = []  # when it stepped, and by how much

    def env(self, name: str) -> dict[str, str]:
        """What a process needs in its environment to have this clock."""
        self.set(name, 0)
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file(name)),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, name: str, ahead: float) -> None:
        """Step: from now on the clock is that many seconds ahead of the true one."""
        new = self._file(name).with_suffix(".new")
        new.write_text(f"{ahead:+.0f}\n")
        new.rename(self._file(name))

    def wrap(self, server: LocalPostgres) -> LocalPostgres:
        """The server, not yet started, under its own clock."""
        server._wrap = [*server._wrap, "env", *(f"{k}={v}" for k, v in self.env("server").items())]
        return server

    def _file(self, name: str) -> Path:
        return self._home / f"clock-{name}"


def server(seconds: int) -> Callable[["Injector"], None]:
    """A step: the server's clock goes back so far, comes back, and goes ahead as far. Mail goes on in each state."""

    def strike(injector: "Injector") -> None:
        world, clocks = injector.world, injector.world.clocks
        assert clocks is not None, "this plan has no clocks"
        injector.wait_free("")  # what else is slow now is the clock's doing
        home = clocks.server
        for ahead in (home - seconds, home, home + seconds):
            began = time.time()
            clocks.steps.append((began, ahead - clocks.server))
            clocks.set("server", ahead)
            clocks.server = ahead
            _seen_by_server(world, ahead)
            _mail_goes(world)
            threading.Event().wait(HOLDS)
            world.note("clock server", f"{ahead - home:+.0f} s", began)
        world.marks[f"clock server {seconds}"] += 1

    return strike


def daemon(injector: "Injector") -> None:
    """A step: one daemon's clock goes far off and comes back, while requests hang whose emails must be tried again."""
    world, clocks, began = injector.world, injector.world.clocks, time.time()
    assert clocks is not None, "this plan has no clocks"
    ahead = STEPS_OF_DAEMONS[world.marks["clock daemon"] % len(STEPS_OF_DAEMONS)]
    slot = injector.luck.choice(injector.running())
    world.wait_running(slot, injector.all_run)
    injector.wait_free("esp fault")
    provider = world.running.provider
    provider.control({"faults": (Fault("accept-hang", 0.5),)})
    threading.Event().wait(0.6)  # some hang now, and none longer than a second
    clocks.set(slot.clock, ahead)
    threading.Event().wait(0.6)
    provider.control({"faults": ()})
    until(lambda: _seen_by_daemon(slot, ahead), within=10, what="a daemon to tell its new time")
    _claims(world, slot)
    threading.Event().wait(HOLDS)
    clocks.set(slot.clock, 0)
    world.note("clock daemon", f"{slot.number} {ahead:+d} s", began)
    world.marks["clock daemon"] += 1


def _seen_by_server(world: "World", ahead: float) -> None:
    with world.connect("faults") as conn:
        (told,) = conn.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    assert abs(told - time.time() - ahead) < SLACK, f"the server's clock is {told - time.time():+.1f} s off"


def _seen_by_daemon(slot: "Slot", ahead: float) -> bool:
    """Whether the daemon's log names the time that its clock shows: a reload makes it write a line."""
    before = slot.log.stat().st_size
    slot.signal(signal.SIGHUP)

    def told() -> bool:
        with slot.log.open() as log:
            log.seek(before)
            return any(abs(stamp - time.time() - ahead) < SLACK for stamp in map(_stamp, log))

    try:
        until(told, within=2, what="a line")
    except AssertionError:
        return False
    return True


def _stamp(line: str) -> float:
    try:
        return datetime.fromisoformat(json.loads(line)["time"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return 0.0


def _claims(world: "World", slot: "Slot") -> None:
    """The daemon takes mail from now on: applications insert all the time."""
    with world.connect("faults") as conn:
        (last,) = conn.execute("select coalesce(max(n), 0) from faults.move").fetchone()
        until(
            lambda: conn.execute(CLAIMS, (last, str(slot.gate))).fetchone()[0],
            within=FRESH_WITHIN,
            what=f"daemon {slot.number}, whose clock stepped, to claim",
        )


def _mail_goes(world: "World") -> None:
    """What is inserted after the step is asked for."""
    inserted = world.insert_now(3)
    until(lambda: inserted <= world.asked_for(), within=FRESH_WITHIN, what="mail inserted after the step")
