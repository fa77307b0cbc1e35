"""The unit under a real systemd: start, reload, watchdog, kill, stop with drain, credentials."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from conftest_path import count, drained, lift_limits, only_once, singly
from factories import insert_many
from machine import Machine
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from servers import fresh_database
from stalling import StallingProxy
from waiting import until

from outboxd.sink.options import SinkOptions
from outboxd.sink.server import Running, running_sink

OLD, NEW = "re_old_0123456789", "re_new_0123456789"
MANY = 1_000_000
KEY_FILE = "/etc/outboxd/resend_api_key"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    booted = Machine(tmp_path_factory.mktemp("machine"))
    try:
        booted.start()
        yield booted
    finally:
        booted.stop()


@dataclass
class Service:
    """outboxd.service with a database and a provider of the test's own."""

    machine: Machine
    sink: Running
    conn: psycopg.Connection
    url: str
    proxy: StallingProxy
    unit: str = "outboxd.service"

    def start(self) -> None:
        self.machine.run("systemctl", "start", self.unit)

    def pid(self) -> int:
        """The main process, by its number outside."""
        inside = self.machine.show(self.unit, "MainPID")
        cgroup = self.machine.show(self.unit, "ControlGroup")
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
                mine = (
                    lines["NSpid"].split()[-1] == inside and cgroup in (status.parent / "cgroup").read_text()
                )
            except (OSError, KeyError):
                continue
            if mine:
                return int(status.parent.name)
        raise AssertionError(f"no process {inside}")

    def sends(self, emails: int) -> None:
        """Insert some, and see them go."""
        before = count(self.conn, "delivery")
        insert_many(self.conn, emails)
        until(
            lambda: drained(self.conn) and count(self.conn, "delivery") == before + emails,
            within=60,
            what="the emails to go",
        )


@pytest.fixture
def service(machine: Machine, server: str, template: str) -> Iterator[Service]:
    for url in fresh_database(server, template):
        with (
            psycopg.connect(url, autocommit=True) as conn,
            running_sink(SinkOptions(port=0, rate_limit=None)) as sink,
        ):
            # The server may listen on a Unix socket only.
            proxy = StallingProxy(conn.info.host, conn.info.port, cut_at=b"user\0")
            made = Service(machine, sink, conn, proxy.url(url), proxy)
            lift_limits(url)
            singly(conn)
            machine.write(
                "/etc/outboxd/outboxd.toml",
                f'[database]\nurl = "{made.url}"\n[resend]\napi_url = "{sink.url}"\n'
                'deadline = "5s"\n[health]\nlisten = ""\n[sender]\nthreads = 4\nlease = "15s"\n',
            )
            machine.write(KEY_FILE, OLD + "\n", mode=0o600)
            machine.run("systemctl", "daemon-reload")
            try:
                yield made
            finally:
                machine.run("systemctl", "kill", "-s", "KILL", made.unit, check=False)
                machine.run("systemctl", "stop", made.unit, check=False)
                machine.run("systemctl", "reset-failed", check=False)
                machine.run("rm", "-rf", "/etc/systemd/system/outboxd.service.d", check=False)
                proxy.close()


def test_start_returns_once_it_sends(service):
    service.start()
    assert service.machine.run("systemctl", "is-active", service.unit).strip() == "active"
    assert service.machine.show(service.unit, "StatusText").startswith("sends")
    service.sends(20)
    assert only_once(service.sink)["accepted"] == 20


def test_it_is_not_active_while_postgres_is_away_and_starts_by_itself_once_it_is_there(service):
    service.proxy.cuts_left = MANY
    service.machine.run("systemctl", "start", "--no-block", service.unit)
    seen = set()

    def refused_thrice() -> bool:
        seen.add(service.machine.show(service.unit, "ActiveState"))
        return service.proxy.cuts_left <= MANY - 3

    until(refused_thrice, within=30, what="three refused connections")
    assert seen <= {"activating", "inactive"}
    service.proxy.cuts_left = 0
    until(lambda: service.machine.show(service.unit, "ActiveState") == "active", within=30, what="the start")
    assert service.machine.show(service.unit, "StatusText").startswith("sends")
    service.sends(5)


def test_reload_takes_a_rotated_key_in_the_same_process(service):
    service.sink.provider.control({"key_modes": {NEW: "revoked"}})
    service.start()
    service.sends(5)
    before = service.machine.show(service.unit, "MainPID")
    service.machine.write(KEY_FILE, NEW + "\n", mode=0o600)
    service.machine.run("systemctl", "reload", service.unit)
    until(lambda: "reloaded" in service.machine.journal(), what="the reload")
    service.sink.provider.control({"key_modes": {OLD: "revoked"}})
    service.sends(5)
    assert service.machine.show(service.unit, "MainPID") == before
    assert service.sink.provider.verdicts["refused"] == 0


def test_reload_names_a_rotated_database_url_and_never_shows_it(service):
    url_file = "/etc/outboxd/database_url"
    service.machine.write(
        "/etc/systemd/system/outboxd.service.d/test.conf",
        f"[Service]\nLoadCredential=database_url:{url_file}\n",
    )
    service.machine.write(url_file, service.url + "\n", mode=0o600)
    service.machine.run("systemctl", "daemon-reload")
    service.start()
    other = conninfo_to_dict(service.url) | {"password": "pa55word"}
    service.machine.write(url_file, make_conninfo(**other) + "\n", mode=0o600)
    service.machine.run("systemctl", "reload", service.unit)
    until(lambda: "settings=database.url" in service.machine.journal(), what="the warning")
    assert "pa55word" not in service.machine.journal()
    service.sends(5)


def test_a_hung_daemon_is_killed_by_the_watchdog_and_started_again(service):
    service.machine.write(
        "/etc/systemd/system/outboxd.service.d/test.conf", "[Service]\nWatchdogSec=2\nTimeoutAbortSec=3\n"
    )
    service.machine.run("systemctl", "daemon-reload")
    service.start()
    service.sends(5)
    os.kill(service.pid(), signal.SIGSTOP)
    until(lambda: service.machine.show(service.unit, "NRestarts") == "1", within=30, what="the restart")
    until(lambda: service.machine.show(service.unit, "StatusText").startswith("sends"), what="it to be ready")
    service.sends(5)
    assert only_once(service.sink)["accepted"] == 10


def test_a_daemon_that_works_is_left_alone_by_the_watchdog(service):
    service.machine.write(
        "/etc/systemd/system/outboxd.service.d/test.conf", "[Service]\nWatchdogSec=1\nTimeoutAbortSec=3\n"
    )
    service.machine.run("systemctl", "daemon-reload")
    service.sink.provider.control({"think_time": 1.0})
    service.start()
    service.sends(12)
    assert service.machine.show(service.unit, "NRestarts") == "0"


def test_kill_9_is_followed_by_a_restart_and_no_email_is_lost(service):
    service.sink.provider.control({"think_time": 0.5})
    service.start()
    insert_many(service.conn, 12)
    until(lambda: len(service.sink.provider.entries) >= 2, what="requests on the wire")
    os.kill(service.pid(), signal.SIGKILL)
    until(lambda: service.machine.show(service.unit, "NRestarts") == "1", within=30, what="the restart")
    until(
        lambda: drained(service.conn) and count(service.conn, "delivery") == 12, within=60, what="all to go"
    )
    assert only_once(service.sink)["accepted"] == 12


def test_stop_drains(service):
    service.sink.provider.control({"think_time": 1.0})
    service.start()
    insert_many(service.conn, 20)
    until(lambda: len(service.sink.provider.entries) >= 2, what="requests on the wire")
    service.machine.run("systemctl", "stop", service.unit)
    assert service.machine.show(service.unit, "Result") == "success"
    assert service.machine.show(service.unit, "ExecMainStatus") == "0"
    assert count(service.conn, "lease") == 0
    sent = count(service.conn, "delivery")
    assert sent == only_once(service.sink)["accepted"] >= 2
    assert count(service.conn, "ready") == 20 - sent


def test_the_key_is_readable_by_the_service_only(service):
    service.start()
    service.machine.write(KEY_FILE, NEW + "\n", mode=0o600)
    service.machine.run("systemctl", "reload", service.unit)
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat")
    beside = f"{KEY_FILE}.readable"
    service.machine.write(beside, "by anybody", mode=0o644)
    assert service.machine.run(*as_nobody, beside) == "by anybody"
    for file in ("/run/credentials/outboxd.service/resend_api_key", "/run/outboxd/resend_api_key", KEY_FILE):
        assert service.machine.run("cat", file).startswith("re_")
        assert service.machine.run(*as_nobody, file, check=False) == ""
    pid = service.machine.show(service.unit, "MainPID")
    for name in ("environ", "cmdline"):
        shown = service.machine.run("cat", f"/proc/{pid}/{name}")
        assert OLD not in shown
        assert NEW not in shown


def test_the_journal_finds_an_entry_by_its_field(service):
    service.start()
    found = service.machine.run("journalctl", "-u", service.unit, "-o", "json", "OUTBOXD_EVENT=outboxd runs")
    entry = json.loads(found.splitlines()[-1])
    assert entry["PRIORITY"] == "6"
    assert entry["SYSLOG_IDENTIFIER"] == "outboxd"
    assert entry["OUTBOXD_VERSION"]


@pytest.mark.parametrize("name", ["outboxd", "outboxd@shop"])
def test_a_wrong_configuration_fails_once_and_is_not_tried_again(service, name):
    file = "shop" if "@" in name else "outboxd"
    service.unit = f"{name}.service"
    service.machine.write(f"/etc/outboxd/{file}.toml", "[sender]\nthreds = 3\n")
    service.machine.write(f"/etc/outboxd/{'shop.' if '@' in name else ''}resend_api_key", OLD, mode=0o600)
    service.machine.run("systemctl", "start", service.unit, check=False)
    assert service.machine.show(service.unit, "ActiveState") == "failed"
    assert service.machine.show(service.unit, "ExecMainStatus") == "78"
    said = service.machine.run("journalctl", "-u", service.unit, "-n", "20")
    assert "did you mean 'sender.threads'" in said
    service.machine.run("systemctl", "reset-failed", service.unit)


def test_the_schema_is_made_by_its_own_unit(service, empty_database):
    proxy = StallingProxy(service.conn.info.host, service.conn.info.port)
    try:
        service.machine.write(
            "/etc/outboxd/migrate.toml", f'[database]\nurl = "{proxy.url(empty_database)}"\n'
        )
        service.machine.run("systemctl", "start", "outboxd-migrate")
    finally:
        proxy.close()
    with psycopg.connect(empty_database) as conn:
        assert count(conn, "email") == 0


def test_an_instance_has_its_own_file_and_key(service):
    text = (service.machine.root / "etc/outboxd/outboxd.toml").read_text()
    service.machine.write("/etc/outboxd/shop.toml", text)
    service.machine.write("/etc/outboxd/shop.resend_api_key", NEW + "\n", mode=0o600)
    service.machine.write("/etc/outboxd/outboxd.toml", "")
    service.sink.provider.control({"key_modes": {OLD: "revoked"}})
    service.unit = "outboxd@shop.service"
    service.start()
    service.sends(3)
    service.machine.run("systemctl", "reload", service.unit)
    service.machine.run("systemctl", "stop", service.unit)
    assert service.machine.show(service.unit, "Result") == "success"
