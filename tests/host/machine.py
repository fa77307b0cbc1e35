"""A real systemd as the first process of a container over this host's files; nothing on the host changes.

Its root is an overlay of `/` in memory, its network the host's. The program of this checkout is /opt/outboxd.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import uuid
from pathlib import Path

import pytest
from needs import needs
from waiting import until

ROOT = Path(__file__).parents[2]
MASKED = (
    "getty.target", "console-getty.service", "systemd-networkd.service", "networking.service", "postgresql.service",
    "redis-server.service", "cron.service", "ssh.service", "systemd-resolved.service", "apt-daily.timer",
    "apt-daily-upgrade.timer", "systemd-timesyncd.service", "pgbouncer.service", "nginx.service",
    "systemd-networkd-wait-online.service", "dbus.service", "dbus.socket",
)  # fmt: skip
MAIN = """import sys
sys.path[:0] = ["/opt/outboxd/lib", "/opt/outboxd/site"]
from outboxd.cli.main import main
main()
"""
LAUNCHER = """#!/bin/sh
export LD_LIBRARY_PATH=/opt/outboxd/python/lib
exec /opt/outboxd/python/bin/python{}.{} -I /opt/outboxd/bin/main.py "$@"
"""


class Machine:
    """Booted by `start`, gone after `stop`. `folder` is empty and its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = folder / "root"
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = ""

    def start(self) -> None:
        """Mount, install, boot; about a second."""
        if os.geteuid() != 0:
            pytest.fail("booting a systemd needs root: run this as root", pytrace=False)
        nspawn = needs("systemd-nspawn")
        call("mount", "-t", "tmpfs", "outboxd-test", self._folder)
        for name in ("up", "work", "root"):
            (self._folder / name).mkdir()
        layers = f"lowerdir=/,upperdir={self._folder}/up,workdir={self._folder}/work"
        call("mount", "-t", "overlay", "overlay", "-o", layers, self.root)
        self._install()
        command = [
            nspawn, "-q", "-D", self.root, "-b", "--register=no", "--keep-unit", "--link-journal=no", "--console=pipe",
            f"--bind-ro={sysconfig.get_path('purelib')}:/opt/outboxd/site",
            f"--bind-ro={sys.base_prefix}:/opt/outboxd/python",
        ]  # fmt: skip
        with (self._folder / "boot.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until(self._booted, within=60, what="systemd to boot")

    def stop(self) -> None:
        """Power off and unmount."""
        if self._process is not None:
            if self._leader:
                os.kill(int(self._leader), signal.SIGRTMIN + 4)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for where in (self.root, self._folder):
            subprocess.run(["umount", "-l", where], check=False, capture_output=True)

    def run(self, *command: str, check: bool = True) -> str:
        """Run it inside, as root; what it printed."""
        inside = ["nsenter", "-t", self._leader, "-m", "-p", "-u", "-i", "-C", "-r", "-w", "--", *command]
        done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=120)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.journal()}"
        return done.stdout

    def show(self, unit: str, what: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "-P", what, unit).strip()

    def journal(self) -> str:
        """The last lines of the journal."""
        return self.run("journalctl", "--no-pager", "-n", "60", check=False)

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """A file inside."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def _install(self) -> None:
        self.write("/etc/machine-id", uuid.uuid4().hex + "\n")
        for unit in MASKED:
            link = self.root / "etc/systemd/system" / unit
            link.unlink(missing_ok=True)
            link.symlink_to("/dev/null")
        package = self.root / "opt/outboxd/lib/outboxd"
        shutil.rmtree(self.root / "opt/outboxd", ignore_errors=True)
        ignore = shutil.ignore_patterns("__pycache__")
        for source, target in (("outboxd", ""), ("sql", "sql"), ("migrations", "migrations")):
            shutil.copytree(ROOT / source, package / target, ignore=ignore, dirs_exist_ok=True)
        shutil.copytree(ROOT / "outboxd.egg-info", package.parent / "outboxd.egg-info")
        for mountpoint in ("site", "python"):
            (self.root / "opt/outboxd" / mountpoint).mkdir()
        self.write("/opt/outboxd/bin/main.py", MAIN)
        self.write("/opt/outboxd/bin/outboxd", LAUNCHER.format(*sys.version_info), mode=0o755)
        for unit in (ROOT / "systemd").iterdir():
            shutil.copy(unit, self.root / "etc/systemd/system" / unit.name)

    def _booted(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "boot.log").read_text()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self._leader = children[0]
        return self.run("systemctl", "is-system-running", check=False).strip() in {"running", "degraded"}


def call(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
