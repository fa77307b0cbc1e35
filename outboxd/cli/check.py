"""`outboxd check`: what would keep the daemon from sending, found before it does."""

import ssl
import sys
from collections.abc import Callable, Iterator

import click

from outboxd.cli.settings import settings
from outboxd.config import Config
from outboxd.errors import OutboxdError

CLOCK = 5.0  # seconds that two clocks may differ
Finding = tuple[str, bool, str]


@click.command()
def check() -> None:
    """Check configuration, database, schema, listener and key. Sends no email; exit 1 if something is wrong."""
    config = settings(require={"database.url", "resend.api_key"})
    bad = 0
    for name, good, detail in _findings(config):
        click.echo(f"{'ok  ' if good else 'FAIL'}  {name:10} {detail}")
        bad += not good
    sys.exit(1 if bad else 0)


def _findings(config: Config) -> Iterator[Finding]:
    yield "config", True, "readable, and complete"
    url = config.database.url.reveal()
    database = list(_database(url))
    yield from database
    if all(good for _, good, _ in database):
        yield _try("schema", lambda: _schema(url))
        listen = config.database.listen_url or config.database.url
        yield _try("listener", lambda: _listener(listen.reveal()))
    yield _try("provider", lambda: _provider(config))


def _database(url: str) -> Iterator[Finding]:
    from outboxd.db import probe  # noqa: PLC0415 - psycopg

    try:
        facts = probe.facts(url)
    except OutboxdError as error:
        yield "database", False, str(error)
        return
    yield (
        "database",
        not facts.standby,
        "is a standby: point at the primary" if facts.standby else "reachable",
    )
    yield "version", facts.version >= 150000, f"PostgreSQL {facts.version // 10000}.{facts.version % 10000}"  # noqa: PLR2004
    if facts.pooled:
        yield (
            "pooler",
            True,
            "url goes through a pooler: nothing is prepared on the server, which costs some ms per claim",
        )
    yield "clock", abs(facts.clock_ahead) <= CLOCK, f"{facts.clock_ahead:+.3f} s against ours"


def _schema(url: str) -> tuple[bool, str]:
    from outboxd.db import migrate  # noqa: PLC0415 - alembic

    migrate.check(url)
    return True, f"is at {migrate.head()}"


def _listener(url: str) -> tuple[bool, str]:
    from outboxd.db import probe  # noqa: PLC0415 - psycopg

    if probe.hears(url):
        return True, "hears notifications"
    return (
        False,
        "hears nothing, as through a pooler: set database.listen_url to the server itself (mail is polled meanwhile)",
    )


def _provider(config: Config) -> tuple[bool, str]:
    """Ask with an empty body: a good key, also one for sending only, is told that the body is wrong."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from outboxd.core.outcome import Paused, Rejected, Sent  # noqa: PLC0415
    from outboxd.resend.classify import classify  # noqa: PLC0415 - httpx
    from outboxd.resend.client import Client, shared_ssl_context  # noqa: PLC0415

    context: ssl.SSLContext = shared_ssl_context()
    client = Client(
        config.resend.api_url,
        config.resend.api_key.reveal,
        deadline=config.resend.deadline,
        ssl_context=context,
    )
    outcome = classify(client.send(b"{}", "outboxd-check"), now=datetime.now(UTC))
    client.close()
    match outcome:
        case Rejected():
            return True, f"answers at {config.resend.api_url}, and knows the key"
        case Paused(failure):
            return False, f"refuses the key: {failure.message}"
        case Sent():
            return False, "accepted an empty email: that is not Resend"
        case other:
            return False, f"{getattr(getattr(other, 'failure', None), 'message', type(other).__name__)}"


def _try(name: str, look: Callable[[], tuple[bool, str]]) -> Finding:
    try:
        good, detail = look()
    except OutboxdError as error:
        return name, False, str(error)
    return name, good, detail
