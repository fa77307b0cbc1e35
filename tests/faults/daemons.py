"""The daemons of a run: real processes, each behind proxies of its own, forked from one that imported everything."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from waiting import until

from .clock import Clocks
from .proxy import Proxies

LAUNCH = Path(__file__).with_name("launch.py")
KEY = "re_planted_5f2c91d0b7aa4e"


class Zygote:
    """Has imported the tree's outboxd once; forks a daemon when it is asked to."""

    def __init__(self, tree: Path, lease: float, log: Path, clock: Mapping[str, str]) -> None:
        self.exits: dict[int, int] = {}
        self._pids: list[int] = []
        self._changed = threading.Condition()
        command = [sys.executable, "-P", str(LAUNCH), str(tree), str(lease), "serve"]
        with log.open("ab") as err:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                env=dict(os.environ) | clock,
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the daemon's tree does not start: {log.read_text()[-2000:]}")
        self._reader = threading.Thread(target=self._read, name="zygote", daemon=True)
        self._reader.start()

    def fork(self, env: dict[str, str], log: Path) -> int:
        """A new daemon's process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"env": env, "log": str(log)}) + "\n")
        self._process.stdin.flush()
        with self._changed:
            assert self._changed.wait_for(lambda: self._pids, 20), "no daemon was forked"
            return self._pids.pop()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(5)  # daemons that it forked have the other end of its pipe until they are gone
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        if not self._reader.is_alive():
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, *numbers = line.split()
            with self._changed:
                if word == "pid":
                    self.exits.pop(int(numbers[0]), None)  # of a process that had this number before
                    self._pids.append(int(numbers[0]))
                else:
                    self.exits[int(numbers[0])] = int(numbers[1])
                self._changed.notify_all()


class Slot:
    """A place for one daemon at a time. `armed` names the point of the path at which it is to be killed."""

    def __init__(self, number: int, home: Path) -> None:
        self.number = number
        self.logs: list[Path] = []  # one per daemon that was here
        self._home = home
        self.clock = f"daemon-{number}"
        self.env: dict[str, str] = {}
        self.gate = 0  # the port by which it reaches the database
        self.previous = False  # whether the previous release's daemon is here
        self.mortal = True  # whether what is killed here may start again
        self.pid = 0
        self.started_at = 0.0
        self.exits: Mapping[int, int] = {}  # where its exit code will be
        self.stopped = False
        self.armed: str | None = None
        self.with_signal = signal.SIGKILL
        self.fired = threading.Event()
        self._mutex = threading.Lock()

    @property
    def log(self) -> Path:
        """What the daemon that is here writes; empty until it does."""
        return self.logs[-1]

    def new_log(self) -> Path:
        self.logs.append(self._home / f"daemon-{self.number}-{len(self.logs)}.log")
        self.log.touch()
        return self.log

    def on_point(self, name: str) -> bool:
        """Kill the daemon if this is where it is to die, or stop it."""
        if self.armed != name:
            return False
        with self._mutex:
            if self.armed != name:
                return False
            self.armed = None
            self.signal(self.with_signal)
            self.fired.set()
        return True

    def arm(self, point: str) -> None:
        """From now on it dies at this point."""
        self.fired.clear()  # a zombie was here
        self.armed = point

    def disarm(self) -> bool:
        """It may pass; whether it has died already."""
        with self._mutex:
            self.armed = None
            return self.fired.is_set()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def stop_orderly(self) -> None:
        self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        self.stopped = number == signal.SIGSTOP or (
            self.stopped and number not in {signal.SIGCONT, signal.SIGKILL}
        )


class Fleet:
    """All slots with their proxies."""

    def __init__(
        self, number: int, tree: Path, home: Path, *, lease: float, proxies: Proxies, postgres: str, sink: tuple[str, int],
        url: Callable[[int], str], clocks: Clocks | None, previous: Path | None,
        settings: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.home = home
        clock = clocks.env("zygote") if clocks else {}
        self.zygote = Zygote(tree, lease, home / "zygote.log", clock)
        self.previous_tree = previous
        self._previous = Zygote(previous, lease, home / "previous.log", clock) if previous else None
        self._exits: dict[int, int] = {}
        self._tree, self._lease = tree, lease
        self.slots = [Slot(place, home) for place in range(number)]
        credentials = home / "credentials"
        credentials.mkdir(exist_ok=True)
        (credentials / "resend_api_key").write_text(KEY)
        for slot in self.slots:
            database = proxies.gate("pg", postgres, slot.on_point)
            slot.gate, slot.previous = database.port, previous is not None
            provider = proxies.gate("esp", sink, slot.on_point)
            database.owner = provider.owner = str(slot.gate)
            slot.env = environment(url(database.port), f"http://{sink[0]}:{sink[1]}", credentials)
            slot.env |= settings
            slot.env |= clocks.env(slot.clock) if clocks else {}
            slot.env["FAULTS_GATE"] = f"{sink[1]}:{provider.port}"

    def start(self, slot: Slot, *, cold: bool = False) -> None:
        """A new daemon in the slot; `cold` with an interpreter of its own. The one before it must have ended, or end now."""
        if slot.pid:
            self.wait(slot, 10)
        slot.stopped, slot.armed, slot.with_signal = False, None, signal.SIGKILL
        slot.fired.clear()
        slot.started_at = time.time()
        log = slot.new_log()
        if not cold:
            zygote = self._previous if slot.previous and self._previous else self.zygote
            slot.pid, slot.exits = zygote.fork(slot.env, log), zygote.exits
            return
        tree = self.previous_tree if slot.previous else self._tree
        command = [sys.executable, "-P", str(LAUNCH), str(tree), str(self._lease), "run"]
        with log.open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=slot.env
            )
        self._exits.pop(process.pid, None)
        slot.pid, slot.exits = process.pid, self._exits
        threading.Thread(target=self._reap, args=(process,), daemon=True).start()

    def ended(self, slot: Slot) -> int | None:
        """The exit code of the slot's daemon; None while it runs."""
        return slot.exits.get(slot.pid)

    def wait(self, slot: Slot, within: float) -> int:
        until(lambda: self.ended(slot) is not None, within=within, what=f"daemon {slot.pid} to end")
        code = self.ended(slot)
        assert code is not None
        return code

    def close(self) -> None:
        for slot in self.slots:
            slot.kill()
        self.zygote.close()
        if self._previous:
            self._previous.close()

    def _reap(self, process: "subprocess.Popen[bytes]") -> None:
        self._exits[process.pid] = process.wait()


def environment(database: str, api_url: str, credentials: Path) -> dict[str, str]:
    """A daemon's. The lease is what the configuration allows; `launch.py` makes it short."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "DATABASE_URL": database,
        "CREDENTIALS_DIRECTORY": str(credentials),
        "RESEND_API_URL": api_url,
        "OUTBOXD_RESEND__DEADLINE": "1s",
        "OUTBOXD_SENDER__LEASE": "11s",
        "OUTBOXD_SENDER__THREADS": "8",
        "OUTBOXD_HEALTH__LISTEN": "",
        "OUTBOXD_LOG__FORMAT": "json",
    }


def migrate(tree: Path, database: str) -> None:
    """Make the schema that the tree wants."""
    command = [sys.executable, "-P", str(LAUNCH), str(tree), "3", "migrate"]
    done = subprocess.run(
        command,
        env=dict(os.environ) | {"DATABASE_URL": database},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the tree's migrations fail: {done.stderr[-2000:]}")


def tcp_url(port: int, database: str, user: str = "outboxd_fault_daemon", *, named: bool = True) -> str:
    """By way of a gate. `named`: sessions say which one it was; a pooler takes no such option."""
    gate = f"&options=-c%20faults.gate%3D{port}" if named else ""
    return f"postgresql://{user}@127.0.0.1:{port}/{quote(database)}?sslmode=disable&gssencmode=disable{gate}"
