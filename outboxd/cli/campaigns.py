"""`outboxd campaigns`: stop one and let it go on, whatever its emails are."""

import click

from outboxd.cli.stops import add_stops


@click.group()
def campaigns() -> None:
    """Pause and resume campaigns: what was written with this `campaign`."""


add_stops(campaigns, "campaign")
