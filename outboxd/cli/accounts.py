"""`outboxd accounts`: what the provider accounts are at, and asking again after a pause or behind a breaker."""

import click

from outboxd.cli.printing import as_json, table
from outboxd.cli.settings import database_url
from outboxd.cli.stops import resume_now

COLUMNS = (
    "account",
    "rate",
    "adapted",
    "day",
    "month",
    "breaker",
    "failures",
    "cause",
    "probe_at",
    "paused",
    "paused_domains",
)


@click.group()
def accounts() -> None:
    """Look at provider accounts, and resume them."""


@accounts.command("list")
@click.option("--json", "json_", is_flag=True)
def list_(*, json_: bool) -> None:
    """Requests per second that the provider names (-: none) and that its refusals taught; quotas, breaker, pauses."""
    from outboxd.db import operation  # noqa: PLC0415 - psycopg

    found = operation.accounts(database_url())
    click.echo(as_json(found) if json_ else table(found, COLUMNS))


@accounts.command()
@click.argument("account", default="default")
@click.option("--domain", help="Resume this domain of senders instead.")
def resume(account: str, domain: str | None) -> None:
    """Ask for ACCOUNT again: ends its pause and closes its breaker. Exit 1 where there was neither."""
    if domain is not None:
        resume_now("domain", domain)
    else:
        resume_now("account", account)
