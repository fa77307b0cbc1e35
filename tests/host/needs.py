"""What the host must bring for these tests, and how to install it: one table, easy to extend.

`needs("pgbouncer")` gives the program's path, or fails with the line that installs it; nothing is ever skipped. Run as
a program (any Python, nothing installed) it says what is missing; `--packages` prints the Debian packages alone.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def program(name: str) -> Callable[[], str | None]:
    """Looks on PATH, and where Debian puts what only root runs."""
    return lambda: shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def library(pattern: str) -> Callable[[], str | None]:
    """Looks for a file below /usr/lib."""
    return lambda: next((str(path) for path in sorted(Path("/usr/lib").glob(pattern))), None)


@dataclass(frozen=True)
class Need:
    """`find` gives its path or None; `package` is Debian's."""

    find: Callable[[], str | None]
    package: str
    reason: str


NEEDS = {
    "node": Need(program("node"), "nodejs", "runs Resend's official Node client"),
    "npm": Need(program("npm"), "npm", "installs Resend's official Node client"),
    "pgbouncer": Need(program("pgbouncer"), "pgbouncer", "a pooler in transaction mode"),
    "libfaketime": Need(library("*/faketime/libfaketime.so.1"), "faketime", "a clock that jumps"),
    "docker-compose": Need(program("docker-compose"), "docker-compose", "reads the compose file"),
    "systemd-analyze": Need(program("systemd-analyze"), "systemd", "judges the units"),
    "systemd-nspawn": Need(program("systemd-nspawn"), "systemd-container", "boots a real systemd"),
}


def missing() -> list[str]:
    """The names of what is not there."""
    return [name for name, need in NEEDS.items() if need.find() is None]


def remedy(names: list[str]) -> str:
    """The one line that installs them."""
    return "apt-get install " + " ".join(dict.fromkeys(NEEDS[name].package for name in names))


def needs(name: str) -> str:
    """Where it is. Fails the test that asks where it is missing."""
    found = NEEDS[name].find()
    if found is None:
        import pytest

        pytest.fail(
            f"this host has no {name} ({NEEDS[name].reason}): {remedy([name])}",
            pytrace=False,
        )
    return found


def main(arguments: list[str]) -> int:
    """Say what is missing; 1 where something is."""
    absent = missing()
    if "--packages" in arguments:
        print(*dict.fromkeys(NEEDS[name].package for name in absent))
        return 0
    for name in absent:
        print(f"missing: {name} ({NEEDS[name].reason})", file=sys.stderr)
    if absent:
        print(f"install them all: {remedy(absent)}", file=sys.stderr)
    return 1 if absent else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
