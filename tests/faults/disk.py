"""A Postgres whose data and WAL lie on two small file systems in memory, each of which a ballast file can fill.

They are mounted in a mount namespace of this thread's own, and gone with it. Without room for data an INSERT gets 53100;
without room for WAL the server panics, and does not come back before there is room again.
"""

import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from servers import binaries
from waiting import until

from outboxd.localpg import LocalPostgres

from .unfit import UnfitError

if TYPE_CHECKING:
    from .injectors import Injector
    from .world import World

CLONE_NEWNS = 0x00020000
SIZES = {"data": "128m", "wal": "48m"}
SMALL = {
    "max_wal_size": "8MB",
    "min_wal_size": "2MB",
    "wal_recycle": "off",  # a new segment wants room
    "log_min_messages": "error",
    "log_line_prefix": "%e [%a] ",
}
FULL = "53100"
SEEN_WITHIN = 20.0  # seconds until somebody meets the full disk
FULL_FOR = 6.0  # seconds that it stays full once it was met
ASKS_AGAIN_WITHIN = 10.0  # seconds from room on the disk to the next acceptance


class Disks:
    """The two file systems below `home`; a server is made on them by `server`."""

    def __init__(self, home: Path) -> None:
        self._places = {name: home / f"{name}-disk" for name in SIZES}
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
            raise UnfitError(
                f"no small disk can be mounted here ({os.strerror(ctypes.get_errno())}): run as root"
            )
        _call("mount", "--make-rprivate", "/")
        for name, place in self._places.items():
            place.mkdir()
            _call("mount", "-t", "tmpfs", "-o", f"size={SIZES[name]}", "outboxd-faults", str(place))

    def server(self, settings: Mapping[str, str]) -> LocalPostgres:
        """A server with its data on one and its WAL on the other, not yet started."""
        data, wal = self._places["data"] / "pg", self._places["wal"] / "pg"
        server = LocalPostgres({**settings, **SMALL}, bin_dir=binaries("18"), data_dir=data)
        if server._user is not None:
            for place in (*self._places.values(), server._home):
                os.chown(place, server._user.pw_uid, server._user.pw_gid)
        command = [*server._wrap, str(server._bin / "initdb"), "-D", str(data), "--waldir", str(wal)]
        _call(*command, "--wal-segsize=1", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        return server

    def fill(self, name: str) -> int:
        """Leave no byte free; how many bytes the ballast has."""
        zeros, written = bytes(1 << 16), 0
        with (self._places[name] / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    written += ballast.write(zeros) or 0
            except OSError:
                return written

    def relieve(self, name: str) -> None:
        (self._places[name] / "ballast").unlink()

    def close(self) -> None:
        for place in self._places.values():
            subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def full(name: str) -> Callable[["Injector"], None]:
    """A step: the disk is full until a daemon has met it (of WAL: until the server has panicked), and a while longer."""

    def strike(injector: "Injector") -> None:
        world, began = injector.world, time.time()
        assert world.disks is not None, "this plan has no small disks"
        injector.wait_free(
            ""
        )  # faults end between steps: one that goes on meanwhile would keep acceptances away
        before = _told(world)
        world.disks.fill(name)
        met = _panicked if name == "wal" else _refused
        try:
            until(lambda: met(world, before), within=SEEN_WITHIN, what=f"the {name} disk to be met full")
            for _ in range(2):
                injector.kill("random")
            threading.Event().wait(FULL_FOR)
        finally:
            world.disks.relieve(name)
        crashed = _panics(_told(world)[len(before) :]) > 0
        if crashed:  # as a service manager does where the server has given up
            world.postgres.stop("immediate")
            world.postgres.start()
        _asks_again(world)
        world.note("disk", f"{name} full{', crashed' if crashed else ''}", began)
        world.marks[f"disk {name}"] += 1

    return strike


def _told(world: "World") -> str:
    return (world.postgres._home / "log").read_text("utf-8", "replace")


def _panics(text: str) -> int:
    return text.count("PANIC:")


def _panicked(world: "World", before: str) -> bool:
    """Whether the server fell. New segments are asked for meanwhile, beside what daemons and applications write."""
    if _panics(_told(world)[len(before) :]):
        return True
    try:
        with world.connect("faults") as conn:
            conn.execute("select pg_switch_wal()")
    except psycopg.Error:
        pass
    return False


def _refused(world: "World", before: str) -> bool:
    """Whether an application and a daemon were told that the disk is full."""
    new = _told(world)[len(before) :]
    return f"{FULL} [app " in new and f"{FULL} [outboxd " in new


def _asks_again(world: "World") -> None:
    def accepted() -> int:
        return sum(entry.verdict == "new" for entry in list(world.running.provider.entries))

    began, before = time.monotonic(), accepted()
    until(
        lambda: accepted() > before,
        within=ASKS_AGAIN_WITHIN,
        what="an acceptance after the disk had room again",
    )
    world.recoveries.append(time.monotonic() - began)


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnfitError(f"{command[0]} failed here: {(done.stderr or done.stdout).strip()[-300:]}")
