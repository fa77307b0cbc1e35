"""`outboxd explain UID`: why an email has not left, and when it can."""

from uuid import UUID

import click

from outboxd.cli.printing import as_json, fields, table
from outboxd.cli.settings import database_url


@click.command()
@click.argument("uid", type=click.UUID)
@click.option("--json", "json_", is_flag=True)
def explain(uid: UUID, *, json_: bool) -> None:
    """Every gate of an email in order: which one holds it, and when it can go at the earliest."""
    from outboxd.db import email  # noqa: PLC0415 - psycopg

    told = email.explain(database_url(), uid)
    if json_:
        click.echo(as_json(told))
        return
    rows = [row | {"": ">" if row["holds"] else ""} for row in told["gates"]]
    summary = {name: value for name, value in told.items() if name != "gates"}
    click.echo(f"{fields(summary)}\n\n{table(rows, ('', 'gate', 'verdict', 'free_at', 'detail'))}")
