"""`outboxd adopt`: let a restored or copied database send, and decide about what waits in it."""

from typing import Literal

import click

from outboxd.cli.settings import settings

DONE = {"send": "released", "discard": "discarded", "hold": "held back"}


@click.command()
@click.option(
    "--pending",
    type=click.Choice(list(DONE)),
    required=True,
    help="What becomes of the emails that wait: send them, end them as cancelled, or hold them back.",
)
def adopt(*, pending: Literal["send", "discard", "hold"]) -> None:
    """Make this database the one that the configured environment and key send from.

    After a restore, a copy, pg_upgrade or a new key, when `/readyz` says "observing". Where nothing was to adopt, it
    decides about emails that are held back (after a failover, or by an earlier --pending=hold).
    """
    from outboxd.db import adoption  # noqa: PLC0415 - psycopg

    config = settings(require={"database.url", "resend.api_key"})
    done = adoption.adopt(
        config.database.url.reveal(),
        pending,
        environment=config.environment,
        api_key=config.resend.api_key.reveal(),
        note=lambda line: click.echo(line, err=True),
    )
    for line in done.reasons:
        click.echo(f"was: {line}")
    click.echo(f"{'adopted' if done.reasons else 'nothing to adopt'}; {DONE[pending]} {done.emails} emails")
