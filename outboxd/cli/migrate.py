"""`outboxd migrate`: bring the database to this program's schema."""

import click

from outboxd.cli.settings import settings


@click.command()
@click.option(
    "--check", "only_check", is_flag=True, help="Change nothing; exit 1 unless the schema is up to date."
)
@click.option(
    "--sql", "only_sql", is_flag=True, help="Print the SQL for an empty database and change nothing."
)
def migrate(*, only_check: bool, only_sql: bool) -> None:
    """Create or upgrade outboxd's schema. Safe to run at any time, also by several at once."""
    from outboxd.db import migrate as migrations  # noqa: PLC0415 - alembic takes a second to import

    if only_sql:
        click.echo(migrations.sql(), nl=False)
        return
    url = settings(require={"database.url"}).database.url.reveal()
    if only_check:
        migrations.check(url)
    else:
        migrations.migrate(url)
    click.echo(f"schema is at {migrations.head()}")
