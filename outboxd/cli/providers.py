"""`outboxd providers`: stop sending to one mailbox provider, by its name or a domain that is its own."""

import click

from outboxd.cli.stops import add_stops


@click.group()
def providers() -> None:
    """Pause and resume mailbox providers: gmail, microsoft, shop.example."""


add_stops(providers, "provider")
