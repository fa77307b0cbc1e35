"""`outboxd check` finds each thing that would keep the daemon from sending, and says what to do."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from pgstubs import OldServer, Pooler, running

from outboxd import checkup
from outboxd.checkup import Finding
from outboxd.config import load
from outboxd.db.fence import Fence
from outboxd.db.privilege import needs
from outboxd.sink.options import SinkOptions
from outboxd.sink.server import Running, running_sink

KEY = "re_test_0123456789"


@pytest.fixture
def sink() -> Iterator[Running]:
    with running_sink(SinkOptions(port=0, rate_limit=None)) as started:
        yield started


@pytest.fixture
def check(database: str, sink: Running) -> Callable[..., dict[str, Finding]]:
    """Runs the check-up; findings by name."""

    def run(url: str = database, **more: str) -> dict[str, Finding]:
        environ = {"DATABASE_URL": url, "RESEND_API_KEY": KEY, "RESEND_API_URL": sink.url} | more
        return {finding.name: finding for finding in checkup.findings(load(None, environ))}

    return run


def grades(found: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.grade for name, finding in found.items()}


def test_all_is_well_and_no_email_was_sent(check, sink):
    assert grades(check()) == dict.fromkeys(
        [
            "config",
            "database",
            "version",
            "clock",
            "pooler",
            "schema",
            "grants",
            "adopted",
            "pauses",
            "listener",
            "provider",
        ],
        "ok",
    )
    assert sink.provider.summary()["accepted"] == 0
    assert [entry.verdict for entry in sink.provider.entries] == ["refused"]


def test_a_server_that_is_not_there(check):
    found = check("postgresql://postgres@127.0.0.1:9/shop")
    assert found["database"].grade == "FAIL"
    assert "refused" in found["database"].detail
    assert set(found) == {"config", "database", "provider"}


def test_a_server_that_is_too_old(check):
    with running(OldServer()) as old:
        found = check(old.url("postgresql:///shop"))
    assert (found["version"].grade, found["version"].detail) == ("FAIL", "PostgreSQL 14.11")
    assert "schema" not in found


@pytest.mark.parametrize(("ahead", "grade"), [(0.2, "ok"), (-4.9, "ok"), (6.0, "FAIL"), (-3600.0, "FAIL")])
def test_a_clock_that_differs(ahead, grade):
    assert checkup.clock(ahead).grade == grade


def test_a_database_without_the_schema(check, empty_database):
    found = check(empty_database)
    assert found["schema"].grade == "FAIL"
    assert found["schema"].remedy == "run `outboxd migrate`"


def test_an_older_schema(check, conn):
    conn.execute("update outboxd.schema_version set version_num = '0000'")
    assert check()["schema"] == Finding("schema", "FAIL", check()["schema"].detail, "run `outboxd migrate`")


@pytest.fixture
def role(conn: psycopg.Connection, database: str) -> Iterator[tuple[str, str]]:
    """A role without any right, and the URL that connects as it."""
    name = f"role_{uuid.uuid4().hex[:12]}"
    conn.execute(f"create role {name} login")
    parts = urlsplit(database)
    yield name, urlunsplit(parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}"))
    conn.execute(f"drop owned by {name}; drop role {name}")


def test_a_role_without_grants_is_told_each_one(check, role):
    name, url = role
    found = check(url)["grants"]
    assert found.grade == "FAIL"
    assert found.detail.startswith(f"{name} lacks usage on schema outboxd")
    assert "delete on ready" in found.detail
    assert "execute on extend_partitions" in found.detail


def test_one_missing_grant_is_the_only_one_named(check, role, conn):
    name, url = role
    conn.execute(f"grant usage on schema outboxd to {name}")
    conn.execute(f"grant select, insert, update, delete on all tables in schema outboxd to {name}")
    conn.execute(f"grant execute on all functions in schema outboxd to {name}")
    conn.execute(f"revoke delete on outboxd.ready from {name}")
    assert check(url)["grants"].detail == f"{name} lacks delete on ready"


def test_the_grants_that_are_asked_for_are_those_of_the_daemons_statements():
    wanted = needs()
    assert ("delete", "ready") in wanted
    assert ("update", "ready") in wanted, "claim locks its rows"
    assert ("select", "email") in wanted
    assert ("insert", "delivery") in wanted
    assert ("execute", "extend_partitions") in wanted
    assert not {name for _, name in wanted} & {"dead_letters", "email_status", "rebuild_ready", "enqueue"}
    assert ("delete", "email") not in wanted


@pytest.fixture
def pooler(conn: psycopg.Connection, database: str) -> Iterator[str]:
    with running(Pooler(conn.info.host, conn.info.port)) as stub:
        yield stub.url(database)


def test_a_pooler_in_transaction_mode_is_noted_with_what_it_costs(check, pooler):
    found = check(pooler)
    assert (found["pooler"].grade, found["listener"].grade) == ("note", "note")
    assert "database.listen_url" in found["listener"].remedy
    assert found["grants"].grade == "ok"


def test_a_direct_listen_url_beside_the_pooler_is_well(check, pooler, database):
    found = check(pooler, OUTBOXD_DATABASE__LISTEN_URL=database)
    assert grades(found) | {"pooler": "note"} == grades(found)
    assert (found["listener"].grade, found["pooler"].remedy) == ("ok", "")


def test_a_database_from_which_another_key_sends_is_none_to_send_from(check, conn):
    assert check()["adopted"].detail.startswith("by nobody yet")
    assert Fence("production", lambda: KEY).admits(conn)
    assert check()["adopted"] == Finding("adopted", "ok", "this environment and key send from this database")
    for more in ({"RESEND_API_KEY": "re_of_another_shop"}, {"OUTBOXD_ENVIRONMENT": "staging"}):
        found = check(**more)["adopted"]
        assert found.grade == "FAIL"
        assert ("API key" in found.detail) == ("RESEND_API_KEY" in more)
        assert "outboxd adopt" in found.remedy


def test_what_is_paused_is_noted_with_its_reason(check, conn):
    conn.execute("select outboxd.pause('queue', 'marketing', 'the campaign is wrong')")
    found = check()["pauses"]
    assert found.grade == "note"
    assert found.detail.startswith("queue marketing since 20")
    assert found.detail.endswith(": the campaign is wrong")


def test_a_listener_that_hears_nothing(check, pooler, empty_database):
    for deaf in (pooler, empty_database):
        found = check(OUTBOXD_DATABASE__LISTEN_URL=deaf)
        assert (found["listener"].grade, found["pooler"].grade) == ("FAIL", "ok")


def test_a_key_that_the_provider_refuses(check, sink):
    sink.provider.control({"key_mode": "revoked"})
    found = check()["provider"]
    assert found.grade == "FAIL"
    assert "API key is invalid" in found.detail
    assert KEY not in found.detail


def test_a_provider_that_cannot_be_reached(check):
    found = check(RESEND_API_URL="http://127.0.0.1:9")["provider"]
    assert (found.grade, "refused" in found.detail) == ("FAIL", True)


def run_check(**environ: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("OUTBOXD_", "RESEND_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "outboxd", "check"],
        env=clean | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_a_line_each_and_exits_0(database, sink):
    done = run_check(DATABASE_URL=database, RESEND_API_KEY=KEY, RESEND_API_URL=sink.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok") == 10
    assert done.stdout.endswith("ready to send\n")
    assert KEY not in done.stdout + done.stderr


def test_the_command_names_every_mistake_of_the_configuration_and_exits_1(tmp_path):
    (tmp_path / "outboxd.toml").write_text(
        "[sender]\nthreds = 3\nthreads = 'many'\n[resend]\nca_file = '/nowhere.pem'\n"
    )
    done = run_check(OUTBOXD_CONFIG=str(tmp_path / "outboxd.toml"))
    assert done.returncode == 1
    for named in ("threds", "threads", "database.url", "resend.api_key", "resend.ca_file"):
        assert named in done.stdout
    assert done.stdout.endswith("5 to mend\n")
