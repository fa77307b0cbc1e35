"""Every other Python that is here has its turn, and what ran is said plainly."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from processes import program

SCRIPT = Path(__file__).parents[2] / "scripts" / "test-others"
MINE = 'echo "11"'
BOOTSTRAP = 'mkdir -p "$2/bin"; printf \'#!/bin/sh\\necho "%s with %s: $*"\\n\' "$2" "$PYTHON" >"$2/bin/python"; chmod +x "$2/bin/python"'
OFFLINE = "exit 1"
SHIM = 'echo "pyenv: command not found" >&2; exit 127'


def python(minor: int) -> str:
    """An interpreter that knows its version, and has venv."""
    return f'case "$*" in *"(3, {minor})"*) exit 0;; esac; exit 1'


@pytest.fixture
def checkout(tmp_path):
    """A checkout with the script alone, on Python 3.11, and a PATH with what a shell needs."""
    program(tmp_path / ".venv" / "bin" / "python", MINE)
    program(tmp_path / "scripts" / "bootstrap", BOOTSTRAP)
    shutil.copy(SCRIPT, tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    for tool in ("dirname", "mkdir", "chmod"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def run(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in {"CI", "PYENV_ROOT", "PYTHON"}}
    return subprocess.run(
        [checkout / "scripts" / "test-others", ".venv/bin", "2"],
        capture_output=True,
        text=True,
        check=False,
        env=clean | {"PATH": str(checkout / "bin"), "HOME": str(checkout)} | environment,
    )


def test_where_there_is_no_other_it_says_so_and_does_not_fail(checkout):
    program(checkout / "bin" / "python3.11", python(11))
    done = run(checkout)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "outboxd: no other Python from 3.11 to 3.14 is here; tested on 3.11 only\n"


def test_each_other_one_runs_the_tests_in_a_venv_of_its_own(checkout):
    program(checkout / "bin" / "python3.12", python(12))
    program(checkout / ".pyenv" / "versions" / "3.14.2" / "bin" / "python", python(14))
    done = run(checkout)
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.startswith(
        f".venv-3.14 with {checkout}/.pyenv/versions/3.14.2/bin/python: -m pytest -q -n 2 "
    )
    assert second.startswith(".venv-3.12 with python3.12: -m pytest ")
    assert done.stderr.endswith("outboxd: tested on Python 3.11, the quick layers on 3.14 3.12 too\n")


def test_ci_runs_them_on_the_newest(checkout):
    program(checkout / "bin" / "python3.12", python(12))
    program(checkout / "bin" / "python3.13", python(13))
    done = run(checkout, CI="true")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [".venv-3.13"]
    assert done.stderr.endswith("outboxd: tested on Python 3.11, the quick layers on 3.13 too\n")


def test_a_shim_that_leads_nowhere_is_passed_over(checkout):
    program(checkout / "bin" / "python3.12", SHIM)
    program(checkout / ".pyenv" / "versions" / "3.12.1" / "bin" / "python", python(12))
    assert run(checkout).stdout.startswith(f".venv-3.12 with {checkout}/.pyenv/versions/3.12.1/bin/python: ")


@pytest.mark.parametrize(("environment", "code"), [({}, 0), ({"CI": "true"}, 1)])
def test_one_whose_packages_are_out_of_reach_is_named_and_fails_only_in_ci(checkout, environment, code):
    program(checkout / "scripts" / "bootstrap", OFFLINE)
    program(checkout / "bin" / "python3.13", python(13))
    done = run(checkout, **environment)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Python 3.13 is here, but its packages could not be installed: not tested on it" in done.stderr


def test_a_red_test_on_another_one_fails_the_run(checkout):
    program(checkout / "bin" / "python3.12", python(12))
    program(
        checkout / "scripts" / "bootstrap",
        'mkdir -p "$2/bin"; printf "#!/bin/sh\\nexit 1\\n" >"$2/bin/python"; chmod +x "$2/bin/python"',
    )
    assert run(checkout).returncode == 1


def test_ci_runs_them():
    assert "\nmake test-others\n" in (SCRIPT.parents[1] / ".ci" / "run").read_text()
