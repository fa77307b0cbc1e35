"""`outboxd dev`: what the application that you are writing needs."""

import click


@click.command()
@click.option(
    "--database", "url", metavar="URL", help="Use this one instead of a local one that ends with us."
)
@click.option(
    "--database-port",
    default=54329,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Of the local database; 0 takes a free one.",
)
@click.option(
    "--port",
    default=8025,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Of API and inbox; 0 takes a free one.",
)
@click.option(
    "--rate-limit",
    default=10,
    show_default=True,
    type=click.IntRange(0),
    help="Requests per second that the local Resend allows; 0: no limit.",
)
def dev(url: str | None, database_port: int, port: int, rate_limit: int) -> None:
    """A database with the schema, a local Resend with an inbox, and the daemon between them, until Ctrl-C.

    A database of your own is migrated; every email that waits in it goes to the local inbox and nowhere else.
    """
    from outboxd.demo.dev import develop  # noqa: PLC0415 - psycopg, starlette

    develop(url, port=port, database_port=database_port, rate_limit=rate_limit or None, say=click.echo)
