"""Daemons forked from a process that has imported the program once: half a second of a processor less for each.

Run as a program it is that process: each line of its input is a request in JSON, each line of its output the answer.
{"start": {"env", "arguments", "log"}} starts `outboxd run` and answers its process id; {"ended": pid} waits for its end
and answers its exit code. What a test replaces, looks up or measures in a process of its own is not forked.
"""

import ctypes
import gc
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1


class Forked:
    """One daemon, with what `subprocess.Popen` offers of it."""

    def __init__(self, forks: "Forks", pid: int) -> None:
        self.pid = pid
        self._forks = forks
        self._ended = os.pidfd_open(pid)
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._code if self._code is not None or not self._has_ended(0) else self._reap()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code once it has ended. Raises `subprocess.TimeoutExpired`."""
        if self._code is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired("outboxd run", timeout or 0)
        return self._reap() if self._code is None else self._code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, seconds: float | None) -> bool:
        return bool(select.select([self._ended], [], [], seconds)[0])

    def _reap(self) -> int:
        self._code = int(self._forks.ask({"ended": self.pid}))
        os.close(self._ended)
        return self._code


class Forks:
    """The process that daemons are forked from; they end with it."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._one_at_a_time = threading.Lock()

    def start(self, env: dict[str, str], arguments: Sequence[str], log: Path) -> Forked:
        log.touch()
        wanted = {"env": env, "arguments": list(arguments), "log": str(log)}
        return Forked(self, int(self.ask({"start": wanted})))

    def ask(self, request: dict[str, Any]) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with self._one_at_a_time:
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            return self._server.stdout.readline()

    def close(self) -> None:
        self._server.communicate()


def serve() -> None:
    from outboxd import daemon, telemetry  # noqa: F401 - imported once for all
    from outboxd.cli import run  # noqa: F401

    die_with_parent()
    gc.freeze()
    for line in sys.stdin:
        match json.loads(line):
            case {"start": wanted}:
                pid = os.fork()
                if pid == 0:
                    become(partial(run_daemon, wanted["arguments"]), wanted["env"], wanted["log"])
                print(pid, flush=True)
            case {"ended": pid}:
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_daemon(arguments: Sequence[str]) -> int:
    """The exit code of `outboxd run`."""
    from outboxd.cli.main import main

    sys.argv = ["outboxd", "run", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def become(program: Callable[[], int], env: dict[str, str], log: str) -> NoReturn:
    """In the child: a process like any other, with its own log, environment and luck."""
    die_with_parent()
    out = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(env)
    random.seed()
    code = 70
    try:
        code = program()
    except BaseException:  # noqa: BLE001 - it is said, and then nothing of the parent may run
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
