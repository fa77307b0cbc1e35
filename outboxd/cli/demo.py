"""`outboxd demo`: the main job, on this machine, in a minute."""

import sys

import click


@click.command()
@click.option("--emails", default=1000, show_default=True, type=click.IntRange(10, 1_000_000))
@click.option(
    "--database",
    metavar="URL",
    help="Use this server instead of a local one: in a database of the demo's own, which is dropped at the end.",
)
@click.option(
    "--port",
    default=8025,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Of the inbox; 0 takes a free one.",
)
@click.option("--exit", "ends", is_flag=True, help="End with the summary instead of keeping the inbox open.")
def demo(emails: int, database: str | None, port: int, *, ends: bool) -> None:
    """A sample shop commits and rolls back; watch its emails reach a local inbox. Needs nothing but this package."""
    from outboxd.demo.figures import Figures  # noqa: PLC0415 - psycopg, starlette
    from outboxd.demo.run import demo as run_demo  # noqa: PLC0415

    person = sys.stdin.isatty() and sys.stdout.isatty()
    last = -10.0

    def show(figures: Figures) -> None:
        nonlocal last
        line = (
            f"{figures.seconds:5.1f} s   committed {figures.ends['committed']:5}   rolled back {figures.shop.rolled_back:4}"
            f"   accepted {figures.accepted_by_provider:5}   waiting {figures.ends['waiting']:5}   dead {figures.ends['dead']:2}"
        )
        if person:
            click.echo(f"\r\x1b[K{line}", nl=False)
        elif figures.seconds - last >= 2.0:  # noqa: PLR2004 - seconds between plain lines
            last = figures.seconds
            click.echo(line)

    right = run_demo(
        emails, database=database, port=port, stay=person and not ends, say=click.echo, show=show
    )
    sys.exit(0 if right else 1)
