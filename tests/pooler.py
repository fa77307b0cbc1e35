"""pgbouncer in transaction mode before a server of the tests, as a process of the tests' own."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from waiting import until

from outboxd.localpg import _as_whom

CONFIG = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {home}
pool_mode = transaction
default_pool_size = 5
max_client_conn = 300
server_login_retry = 1
auth_type = trust
auth_file = {home}/users
"""
USERS = ("postgres", "outboxd_test_app", "outboxd_test_daemon", "outboxd_fault_daemon", "outboxd_canary")


class Pooler:
    """Each transaction may meet another of its five backends; none is kept for anybody."""

    def __init__(self, server: str) -> None:
        parts = conninfo_to_dict(server)
        wrap, user = _as_whom()
        self.home = Path(tempfile.mkdtemp(prefix="outboxd-pooler-", dir="/tmp"))
        self.home.chmod(0o777)
        self._file = self.home / "pgbouncer.ini"
        self._file.write_text(
            CONFIG.format(host=parts.get("host", "/tmp"), port=parts.get("port", 5432), home=self.home)
        )
        (self.home / "users").write_text("".join(f'"{name}" ""\n' for name in USERS))
        as_user = ["-u", user.pw_name] if user else []
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        prefix = [] if user else wrap
        with (self.home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*prefix, program, *as_user, self._file], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until((self.home / ".s.PGSQL.6432").exists, what="pgbouncer to listen")

    def url(self, direct: str) -> str:
        """The same database, and role, through the pooler."""
        parts = conninfo_to_dict(direct)
        secret = f":{quote(str(parts['password']))}" if "password" in parts else ""
        who = f"{parts.get('user', 'postgres')}{secret}"
        return f"postgresql://{who}@/{parts['dbname']}?host={quote(str(self.home))}&port=6432"

    def connect(self, direct: str) -> psycopg.Connection:
        return psycopg.connect(self.url(direct), autocommit=True)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self.home, ignore_errors=True)


class Poolers:
    """One for each server that is asked for."""

    def __init__(self) -> None:
        self._started: dict[tuple[str, str], Pooler] = {}

    def url(self, direct: str) -> str:
        parts = conninfo_to_dict(direct)
        where = (str(parts.get("host")), str(parts.get("port")))
        if "," in where[0]:  # a list of servers: a pooler has one
            return direct
        if where not in self._started:
            self._started[where] = Pooler(direct)
        return self._started[where].url(direct)

    def close(self) -> None:
        for pooler in self._started.values():
            pooler.close()
