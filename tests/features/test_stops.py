"""Pausing and resuming from the shell: daemons obey, the operators' log knows who, and mistakes are named."""

import json

import psycopg
import pytest
from click.testing import CliRunner, Result

from outboxd.cli.accounts import accounts
from outboxd.cli.campaigns import campaigns
from outboxd.cli.providers import providers
from outboxd.cli.queues import queues
from outboxd.cli.types import types


@pytest.fixture
def run(database, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database)

    def invoke(group, *arguments: str) -> Result:
        return CliRunner().invoke(group, arguments)

    return invoke


def log(conn) -> list:
    return conn.execute("select action, kind, key from outboxd.operator_log order by id").fetchall()


@pytest.mark.parametrize(
    ("group", "kind", "name"),
    [
        (queues, "queue", "marketing"),
        (types, "type", "newsletter"),
        (campaigns, "campaign", "spring"),
        (providers, "provider", "gmail"),
    ],
)
def test_a_pause_and_its_end(run, conn, group, kind, name):
    done = run(group, "pause", name, "--reason", "wrong text", "--until", "2099-01-01T00:00:00Z")
    assert (done.output, done.exit_code) == ("paused\n", 0)
    assert conn.execute("select kind, key, reason, until::date::text from outboxd.pauses").fetchall() == [
        (kind, name, "wrong text", "2099-01-01")
    ]
    assert run(group, "resume", name).output == "resumed\n"
    assert run(group, "resume", name).exit_code == 1
    assert log(conn) == [("pause", kind, name), ("resume", kind, name)]


def test_a_queue_that_does_not_exist_is_named(run):
    from outboxd.errors import DatabaseError

    failed = run(queues, "pause", "marketin", "--reason", "x")
    assert isinstance(failed.exception, DatabaseError)
    assert "there is no queue of this name" in str(failed.exception)


def test_resuming_an_account_ends_its_pause_and_closes_its_breaker(run, conn):
    conn.execute("select outboxd.pause('account', 'default', 'moving')")
    conn.execute(
        "insert into outboxd.breaker (account, state, opened_at, probe_at, cause)"
        " values ('default', 'open', clock_timestamp(), clock_timestamp(), 'HTTP 500: x')"
    )
    (row,) = json.loads(run(accounts, "list", "--json").output)
    assert (row["account"], row["breaker"], row["cause"], row["paused"]) == (
        "default", "open", "HTTP 500: x", "moving",
    )  # fmt: skip
    assert run(accounts, "resume").output == "resumed and closed the breaker\n"
    assert conn.execute("select state from outboxd.breaker_status").fetchone() == ("closed",)
    assert run(accounts, "resume").exit_code == 1
    assert log(conn)[1:] == [("resume", "account", "default"), ("resume", "breaker", "default")]


def test_a_domain_is_resumed_beside_its_account(run, conn):
    conn.execute("select outboxd.pause('domain', 'shop.example', 'DNS moves')")
    assert run(accounts, "resume", "--domain", "Shop.example").output == "resumed\n"
    assert conn.execute("select count(*) from outboxd.pauses").fetchone() == (0,)


@pytest.mark.parametrize("written", ["BÜCHER.example", "bu\u0308cher.example", "xn--Bcher-kva.example"])
def test_a_provider_s_domain_is_paused_and_resumed_as_recipients_are_kept(run, conn, written):
    assert run(providers, "pause", written, "--reason", "x").exit_code == 0
    assert conn.execute("select key from outboxd.pauses").fetchall() == [("xn--bcher-kva.example",)]
    assert run(providers, "resume", written).output == "resumed\n"
    assert log(conn)[1:] == [("resume", "provider", "xn--bcher-kva.example")]


@pytest.mark.parametrize("written", ["BÜCHER.example", "xn--Bcher-kva.example"])
def test_a_senders_domain_is_paused_and_resumed_in_any_spelling(run, conn, written):
    conn.execute("select outboxd.pause('domain', 'bücher.example', 'DNS moves')")
    assert conn.execute("select key from outboxd.pauses").fetchall() == [("xn--bcher-kva.example",)]
    assert run(accounts, "resume", "--domain", written).output == "resumed\n"
    assert conn.execute("select count(*) from outboxd.pauses").fetchone() == (0,)


def test_a_kind_that_cannot_be_stopped_is_refused_by_both(conn):
    for call in ("pause('queues', 'system', 'why')", "resume('queues', 'system')", "resume(null, 'system')"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="kind: must be queue, type, campaign"):
            conn.execute(f"select outboxd.{call}")


def test_a_provider_that_can_have_no_mail_is_not_paused(run, conn):
    from outboxd.errors import DatabaseError

    failed = run(providers, "pause", "☃.example", "--reason", "x")
    assert isinstance(failed.exception, DatabaseError)
    assert str(failed.exception).startswith("key: must be a provider's name or a domain")
    assert conn.execute("select count(*) from outboxd.pauses").fetchone() == (0,)


def test_a_provider_s_pause_that_was_kept_as_written_can_be_resumed(run, conn):
    conn.execute(
        "insert into outboxd.pause (kind, key, reason, by) values ('provider', 'bücher.example', 'x', 'ada')"
    )
    assert run(providers, "resume", "bücher.example").output == "resumed\n"
    assert conn.execute("select count(*) from outboxd.pauses").fetchone() == (0,)
