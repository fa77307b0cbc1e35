"""`outboxd dead`: the letters that a person must decide about."""

from uuid import UUID

import click

from outboxd.cli.printing import as_json, fields, table
from outboxd.cli.settings import database_url

COLUMNS = ("uid", "state", "queue", "type", "error_class", "error_name", "error_code", "http_status", "message",
           "died_at")  # fmt: skip


@click.group()
def dead() -> None:
    """Look at dead letters: emails that were given up (dead), or may have been sent (unknown)."""


@dead.command("list")
@click.option("--queue")
@click.option("--type", "type_")
@click.option("--state", type=click.Choice(["dead", "unknown"]))
@click.option("--error", help="An error class (ours), name (the provider's) or code.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--json", "json_", is_flag=True)
def list_(
    queue: str | None, type_: str | None, state: str | None, error: str | None, limit: int, *, json_: bool
) -> None:
    """The newest dead letters that fit."""
    from outboxd.db import email  # noqa: PLC0415 - psycopg

    rows = email.dead_listing(database_url(), limit=limit, queue=queue, type=type_, state=state, error=error)
    click.echo(as_json(rows) if json_ else table(rows, COLUMNS))


@dead.command()
@click.argument("uid", type=click.UUID)
@click.option("--payload", is_flag=True, help="With the email itself: addresses, subject and bodies.")
@click.option("--json", "json_", is_flag=True)
def show(uid: UUID, *, payload: bool, json_: bool) -> None:
    """One dead letter with its history."""
    from outboxd.db import email  # noqa: PLC0415 - psycopg

    row = email.dead_show(database_url(), uid, payload=payload)
    click.echo(as_json(row) if json_ else fields(row))
