"""What the interpreter lacks is said in one line with the remedy, before anything is made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import program

BOOTSTRAP = Path(__file__).parents[2] / "scripts" / "bootstrap"
GOOD = f'case "$*" in "-m venv"*) echo "made: $*"; exit 7;; esac; exec {sys.executable} "$@"'
BARE = f'case "$*" in *ensurepip*) echo "no ensurepip" >&2; exit 1;; esac; exec {sys.executable} "$@"'
OLD = 'case "$*" in *version_info*) exit 1;; esac; echo "Python 3.10.13"'
STALE = "exit 127"


@pytest.fixture
def checkout(tmp_path):
    """A checkout with nothing but the script, and a PATH with nothing but what is put there."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(BOOTSTRAP, tmp_path / "scripts")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "bin" / "dirname").symlink_to(shutil.which("dirname"))
    return tmp_path


def run(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("sh"), checkout / "scripts" / "bootstrap", "nothing"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=clean | {"PATH": str(checkout / "bin")} | environment,
    )


@pytest.mark.parametrize(
    ("pythons", "remedy"),
    [
        ({}, "install python3.11"),
        ({"python3": OLD}, "install python3.11"),
        ({"python3": BARE}, "python3 has no venv: apt-get install python3-venv"),
        ({"python3.12": OLD, "python3": BARE}, "python3 has no venv: apt-get install python3-venv"),
    ],
    ids=["none", "too old", "no venv", "one too old and one without venv"],
)
def test_an_unfit_interpreter_is_one_line_with_the_remedy(checkout, pythons, remedy):
    for name, script in pythons.items():
        program(checkout / "bin" / name, script)
    done = run(checkout)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert remedy in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_named_interpreter_that_does_not_fit_is_named_in_the_line(checkout):
    done = run(checkout, PYTHON="/nowhere/python")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "/nowhere/python is not" in done.stderr


def test_an_interpreter_with_venv_is_preferred_to_a_newer_one_without(checkout):
    program(checkout / "bin" / "python3.13", BARE)
    program(checkout / "bin" / "python3", GOOD)
    assert run(checkout).stdout == "made: -m venv --clear .venv\n"


def test_a_broken_venv_is_made_again(checkout):
    program(checkout / ".venv" / "bin" / "python", STALE)
    program(checkout / "bin" / "python3", GOOD)
    assert run(checkout).stdout == "made: -m venv --clear .venv\n"
