"""The wheel alone, in an empty environment, far from the source: migrate, run, send."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
from factories import insert
from waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    copy = out / "source"
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, copy], check=True)
    subprocess.run(["rm", "-rf", copy], check=True)
    return next(out.glob("*.whl"))


def test_every_sql_file_and_revision_is_in_the_wheel(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = [f"outboxd/sql/{path.relative_to(ROOT / 'sql')}" for path in (ROOT / "sql").rglob("*.sql")]
    files += [
        f"outboxd/migrations/versions/{path.name}"
        for path in (ROOT / "migrations" / "versions").glob("0*.py")
    ]
    files += ["outboxd/py.typed", "outboxd/migrations/env.py", "outboxd/sink/pages/index.html"]
    files += ["outboxd/sink/openapi.json"]
    assert set(files) <= inside


def test_the_installed_wheel_migrates_runs_and_sends(wheel, empty_database, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile", wheel]
    subprocess.run(install, check=True)
    outboxd = tmp_path / "venv" / "bin" / "outboxd"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OUTBOXD_", "PYTHON"))}
    environment = clean | {
        "DATABASE_URL": empty_database,
        "RESEND_API_KEY": "re_test_0123456789",
        "OUTBOXD_HEALTH__LISTEN": "",
    }
    for _ in range(2):
        subprocess.run([outboxd, "migrate"], env=environment, cwd=tmp_path, check=True)
    with subprocess.Popen(
        [outboxd, "sink", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=clean | {"PYTHONUNBUFFERED": "1"},
    ) as sink:
        url = sink.stdout.readline().split()[3]
        try:
            run_and_send(outboxd, environment | {"RESEND_API_URL": url}, tmp_path)
        finally:
            sink.terminate()


def run_and_send(outboxd: Path, environment: dict[str, str], cwd: Path) -> None:
    summary = f"{environment['RESEND_API_URL']}/_sink/summary"
    with subprocess.Popen([outboxd, "run"], env=environment, cwd=cwd) as daemon:
        try:
            with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as conn:
                insert(conn)
            until(lambda: json.load(urlopen(summary))["accepted"] == 1, what="one accepted email")
        finally:
            daemon.terminate()
        assert daemon.wait(30) == 0
