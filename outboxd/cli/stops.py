"""`pause` and `resume`, as every command group has them whose things can be paused."""

from datetime import datetime

import click

from outboxd.cli.settings import database_url
from outboxd.core.suppression import instant


def _instant(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    try:
        return instant(value) if value else None
    except ValueError:
        raise click.BadParameter("is not an instant in ISO 8601, such as 2027-01-31T12:00:00Z") from None


def add_stops(group: click.Group, kind: str) -> None:
    """Give the group a `pause` and a `resume` for this kind."""

    @group.command()
    @click.argument("name")
    @click.option("--reason", required=True, help="For whoever finds the mail waiting.")
    @click.option("--until", callback=_instant, help="ISO 8601; default: until it is resumed.")
    def pause(name: str, reason: str, until: datetime | None) -> None:
        """Ask for nothing of NAME, on every daemon within a second. Its emails keep their place and attempts."""
        from outboxd.db import operation  # noqa: PLC0415 - psycopg

        operation.pause(database_url(), kind, name, reason=reason, until=until)
        click.echo("paused")

    @group.command()
    @click.argument("name")
    def resume(name: str) -> None:
        """Ask for NAME again, whoever paused it. Exit 1 where it was not paused."""
        resume_now(kind, name)


def resume_now(kind: str, name: str) -> None:
    """Resume it, say what was stopped, and exit 1 where nothing was."""
    from outboxd.db import operation  # noqa: PLC0415 - psycopg

    stopped = operation.resume(database_url(), kind, name)
    said = ["closed the breaker" if one == "breaker" else "resumed" for one in stopped]
    click.echo(" and ".join(said) or "nothing was paused", err=not stopped)
    click.get_current_context().exit(0 if stopped else 1)
