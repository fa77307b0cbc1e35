"""`outboxd policy`: all of it as a TOML file, exported, compared and applied."""

from pathlib import Path
from typing import TextIO

import click

from outboxd.cli.rules import changes_as_json, difference
from outboxd.cli.settings import database_url
from outboxd.core.rulebook import Change, dump, load
from outboxd.errors import ConfigError


@click.group()
def policy() -> None:
    """Keep queues, types and limits in a file beside your code."""


@policy.command()
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Default: standard output.")
def export(output: Path | None) -> None:
    """Write all policy as TOML."""
    from outboxd.db import rulebook  # noqa: PLC0415 - psycopg

    text = dump(rulebook.export(database_url()))
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, "utf-8")


@policy.command()
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "json_", is_flag=True, help="The difference as JSON.")
@click.pass_context
def apply(ctx: click.Context, file: TextIO, *, yes: bool, json_: bool) -> None:
    """Make policy what FILE says (`-`: standard input), after showing the difference.

    A section that FILE has is meant whole: types and limits that it leaves out are removed, queues stay.
    """
    from outboxd.db import rulebook  # noqa: PLC0415 - psycopg

    def agree(changes: list[Change]) -> bool:
        click.echo(changes_as_json(changes) if json_ else difference(changes))
        shown.extend(changes)
        return yes or click.confirm("Apply this?", err=True)

    shown: list[Change] = []
    try:
        applied = rulebook.apply(database_url(), load(_text(file)), agree)
    except ConfigError as error:
        click.echo(f"outboxd: {file.name} is refused, nothing was changed:", err=True)
        for mistake in error.mistakes:
            click.echo(f"  {mistake}", err=True)
        ctx.exit(1)
    if not shown:
        click.echo("[]" if json_ else "nothing to change")
    elif not applied:
        click.echo("nothing was changed", err=True)
        ctx.exit(1)


def _text(file: TextIO) -> str:
    try:
        return file.read()
    except UnicodeDecodeError as error:
        raise ConfigError([f"not UTF-8 text: {error.reason} at byte {error.start}"]) from None
