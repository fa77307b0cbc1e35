"""`outboxd rebuild`: derive the hot tables from the others."""

import click

from outboxd.cli.settings import database_url


@click.command()
@click.option(
    "--never-asked",
    is_flag=True,
    help="You know that what is missing was never asked for: ask anew instead of treating it as open.",
)
def rebuild(*, never_asked: bool) -> None:
    """Put back every email that is in no table of a state: after a restore, or in doubt. Safe while daemons run."""
    from outboxd.db import email  # noqa: PLC0415 - psycopg

    def progress(done: int, last: int, found: int) -> None:
        click.echo(f"looked at {done} of {last}, put back {found}", err=True)

    found = email.rebuild(database_url(), never_asked=never_asked, progress=progress)
    click.echo(f"put back {found}")
