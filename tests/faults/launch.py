"""The program inside the daemon's process: `outboxd run` with times that fit a harness, alone or forked on demand.

Run as `python -P launch.py TREE LEASE serve|run|migrate`. TREE is the source tree whose outboxd is run. Nothing of the
package is replaced but constants: a lease of seconds, and the margins that hang on it, in proportion. `serve` imports
everything once and forks a daemon for each JSON line {"env", "log"} on its input; it answers `pid N` and `exit N CODE`.
"""

import dataclasses
import faulthandler
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from forking import become, die_with_parent

PUBLISHES = {"os.putenv", "os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"}  # audit events


def tune(tree: str, lease: float) -> None:
    """Import outboxd from the tree, and shrink its times."""
    sys.path.insert(0, tree)
    if "FAKETIME_TIMESTAMP_FILE" in os.environ:
        nap_on_a_faked_clock()
    import outboxd

    if Path(outboxd.__file__).parent != Path(tree, "outboxd"):
        sys.exit(f"outboxd comes from {outboxd.__file__}, not from {tree}")
    outboxd.__path__.append(tree)  # where its sql and migrations lie

    from outboxd import config

    load = config.load

    def shortened(*args, **options):
        read = load(*args, **options)
        sender = dataclasses.replace(read.sender, lease=timedelta(seconds=lease))
        return dataclasses.replace(read, sender=sender)

    config.load = shortened

    from outboxd import daemon
    from outboxd.core import batch, retry
    from outboxd.delivery import reclaimer

    for module, name, value in (
        (daemon, "MARGIN", timedelta(seconds=lease / 8)),
        (daemon, "STALLED", 2 * lease),
        (batch, "SETTLED_AFTER", timedelta(seconds=lease)),
        (retry, "SUSPECT", timedelta(seconds=2)),
        (reclaimer, "CALM", lease / 4),
    ):
        if not hasattr(module, name):
            sys.exit(f"{module.__name__}.{name} is gone: the harness must learn its new place")
        setattr(module, name, value)
    if hasattr(batch, "ALONE_AFTER_RISE"):  # a release that an upgrade begins with may have none
        batch.ALONE_AFTER_RISE = timedelta(seconds=10 * lease)


def nap_on_a_faked_clock() -> None:
    """libfaketime 0.9.10 fails a sleep until an instant of the monotonic clock, which is how Python sleeps."""
    time.sleep = lambda seconds: threading.Event().wait(seconds) and None


def through_gate() -> None:
    """All daemons have one provider's address, as a fleet has; this one's connections to it pass its own gate."""
    shared, own = (int(port) for port in os.environ["FAULTS_GATE"].split(":"))
    connect = socket.create_connection

    def connect_by_gate(address, *args, **options):
        return connect((address[0], own) if address[1] == shared else address, *args, **options)

    socket.create_connection = connect_by_gate


def tell_what_others_may_read() -> None:
    """Write into the log, which is searched for secrets, what the program puts into its environment, or gives another one.

    `/proc/PID/environ` does not show it: that is what the process was started with.
    """

    def hear(event: str, values: tuple[object, ...]) -> None:
        if event in PUBLISHES:
            line = {"level": "info", "event": event, "told": repr(values)}
            os.write(2, (json.dumps(line) + "\n").encode())

    sys.addaudithook(hear)


def run(command: str = "run") -> int:
    if command == "run":
        through_gate()
        tell_what_others_may_read()
    faulthandler.register(signal.SIGUSR1)
    from outboxd.cli.main import main

    sys.argv = ["outboxd", command]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def serve() -> None:
    from outboxd import daemon, telemetry  # noqa: F401 - imported once for all children
    from outboxd.cli import main  # noqa: F401
    from outboxd.cli import run as _  # noqa: F401 - `run` is ours

    print("ready", flush=True)
    pending = b""
    while True:
        if select.select([0], [], [], 0.02)[0]:
            came = os.read(0, 1 << 16)
            if not came:
                return
            *lines, pending = (pending + came).split(b"\n")
            for line in lines:
                wanted = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    become(run, wanted["env"], wanted["log"])
                print(f"pid {pid}", flush=True)
        reap()


def reap() -> None:
    try:
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            print(f"exit {ended[0]} {os.waitstatus_to_exitcode(ended[1])}", flush=True)
    except ChildProcessError:
        return


if __name__ == "__main__":
    die_with_parent()
    tune(str(Path(sys.argv[1]).resolve()), float(sys.argv[2]))
    match sys.argv[3]:
        case "serve":
            serve()
        case command:
            sys.exit(run(command))
