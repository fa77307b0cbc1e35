"""`outboxd emails`: list, show, cancel."""

from uuid import UUID

import click

from outboxd.cli.printing import as_json, fields, table
from outboxd.cli.settings import database_url
from outboxd.core.address import AddressError, normalise

STATES = (
    "scheduled",
    "ready",
    "sending",
    "retrying",
    "blocked",
    "sent",
    "suppressed",
    "cancelled",
    "expired",
    "dead",
    "unknown",
)
COLUMNS = ("uid", "state", "queue", "type", "attempts", "created_at", "scheduled_at", "last_error")


@click.group()
def emails() -> None:
    """Look at emails, and take them back."""


@emails.command("list")
@click.option("--queue")
@click.option("--type", "type_")
@click.option("--state", type=click.Choice(STATES))
@click.option("--to", "recipient", help="An address; matches to, cc and bcc.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--json", "json_", is_flag=True)
def list_(
    queue: str | None, type_: str | None, state: str | None, recipient: str | None, limit: int, *, json_: bool
) -> None:
    """The newest emails that fit."""
    from outboxd.db import email  # noqa: PLC0415 - psycopg

    rows = email.listing(
        database_url(),
        limit=limit,
        queue=queue,
        type=type_,
        state=state,
        recipient=_normalised(recipient),
    )
    click.echo(as_json(rows) if json_ else table(rows, COLUMNS))


def _normalised(recipient: str | None) -> str | None:
    try:
        return normalise(recipient) if recipient else None
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="--to") from None


@emails.command()
@click.argument("uid", type=click.UUID)
@click.option("--json", "json_", is_flag=True)
def show(uid: UUID, *, json_: bool) -> None:
    """Everything about one email but its payload."""
    from outboxd.db import email  # noqa: PLC0415 - psycopg

    row = email.show(database_url(), uid)
    click.echo(as_json(row) if json_ else fields(row))


@emails.command()
@click.argument("uid", type=click.UUID)
def cancel(uid: UUID) -> None:
    """Take an email back. Exit 1 where it cannot be certain that it is not sent."""
    from outboxd.db import email  # noqa: PLC0415 - psycopg

    if email.cancel(database_url(), uid):
        click.echo("cancelled: it was not and will not be sent")
        return
    click.echo("too late to be certain: it was sent, is being asked for, or an earlier ask is open", err=True)
    click.get_current_context().exit(1)
