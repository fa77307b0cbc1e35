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
@click.option(
    "--roles",
    "only_roles",
    is_flag=True,
    help="Print the SQL of the roles and their rights, for an administrator.",
)
def migrate(*, only_check: bool, only_sql: bool, only_roles: bool) -> None:
    """Create or upgrade outboxd's schema. Safe to run at any time, also by several at once."""
    from outboxd.db import contract  # noqa: PLC0415 - `outboxd --help` needs no driver
    from outboxd.db import migrate as migrations  # noqa: PLC0415 - alembic takes half a second to import

    if only_sql or only_roles:
        click.echo(migrations.sql() if only_sql else contract.roles(), nl=False)
        return
    url = settings(require={"database.url"}).database.url.reveal()
    if only_check:
        contract.check(url)
    elif missing := migrations.migrate(url):
        click.echo(
            f"this role may not create roles: {', '.join(missing)} are missing. One role for everything works; "
            "for least rights give `outboxd migrate --roles` to an administrator",
            err=True,
        )
    click.echo(f"schema is at {contract.head()}")
