"""One canary put to the test, in a process of its own: planted, run, and judged by what must catch it."""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ..checker import summary  # noqa: TID252 - under pytest the package is called otherwise
from ..run import run_plan  # noqa: TID252 - under pytest the package is called otherwise
from .canary import ROOT, Canary, plant
from .storms import STORMS

PATIENCE = 180.0  # seconds that a test may take on a busy machine


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it. `good`: a canary was caught by what must catch it, a control was left in peace."""

    name: str
    good: bool
    by: str
    seconds: float


def try_canary(canary: Canary, seed: int) -> Verdict:
    """Plant the bug and see whether it is caught. Raises `Rotten` where it cannot be planted."""
    with tempfile.TemporaryDirectory(prefix="outboxd-canary-") as home:
        tree = plant(canary.edits, Path(home))
        began = time.monotonic()
        if canary.storm:
            found, told = _weather(canary.storm, tree, seed)
            good, by = not canary.rules.isdisjoint(found), told
        else:
            good, by = _caught_by_test(canary.test, tree)
        return Verdict(canary.name, good, by, time.monotonic() - began)


def try_control(what: str, seed: int) -> Verdict:
    """The same without a bug, by a storm's name or a test's: it must be green."""
    with tempfile.TemporaryDirectory(prefix="outboxd-canary-") as home:
        tree = plant((), Path(home))
        began = time.monotonic()
        if what in STORMS:
            found, by = _weather(what, tree, seed)
            return Verdict(what, not found, by, time.monotonic() - began)
        code, told = _pytest(what, tree)
        return Verdict(what, code == 0, told.splitlines()[-1].strip("= "), time.monotonic() - began)


def _weather(storm: str, tree: Path, seed: int) -> tuple[set[str], str]:
    """The rules that a storm finds broken, and in words; a storm that did not strike breaks "vacuous"."""
    report = run_plan(STORMS[storm], seed, tree=tree, say=lambda _: None)
    found = {violation.rule for violation in report.violations}
    words = [summary(report.violations)] if report.violations else []
    if report.vacuous:
        found.add("vacuous")
        words.append(f"never struck: {', '.join(report.vacuous)}")
    if report.failure:
        found.add("failed")
        words.append(report.failure[:200])
    if os.environ.get("FAULTS_VERBOSE"):
        for violation in report.violations[:5]:
            print(violation, file=sys.stderr)
        print(storm, report.figures, file=sys.stderr)
    return found, f"{storm}: {'; '.join(words) or 'green'}"


def _caught_by_test(test: str, tree: Path) -> tuple[bool, str]:
    code, told = _pytest(test, tree)
    failed = re.findall(r"^FAILED (\S+)", told, re.MULTILINE)
    by = failed[0].rpartition("::")[2] if failed else told.strip()[-300:]
    return code == 1 and bool(failed) and not re.search("^ERROR ", told, re.MULTILINE), by


def _pytest(test: str, tree: Path) -> tuple[int, str]:
    """The exit code and output of one test, of this checkout, against the tree."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "-rfE",
        "--tb=no",
        test,
    ]
    env = dict(os.environ) | {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stdout + done.stderr
