"""What `outboxd queues`, `types` and `limits` have in common: list rows of policy, set one, remove one."""

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta

import click

from outboxd.cli.printing import as_json, table
from outboxd.cli.settings import database_url
from outboxd.core.rulebook import REMOVABLE, Change

TEXTS = frozenset({"kind", "key", "queue", "backoff"})
UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def rules(section: str, about: str, columns: Sequence[str]) -> click.Group:
    """The group of commands for one section of the rulebook."""
    group = click.Group(section, help=about)

    @group.command("list")
    @click.option("--json", "json_", is_flag=True)
    def list_(*, json_: bool) -> None:
        """What holds now."""
        from outboxd.db import rulebook  # noqa: PLC0415 - psycopg

        rows = [
            {key: _shown(value, flat=not json_) for key, value in row.items()}
            for row in rulebook.listing(database_url(), section)
        ]
        click.echo(as_json(rows) if json_ else table(rows, columns))

    @group.command("set")
    @click.argument("name")
    @click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
    @click.option("--json", "json_", is_flag=True)
    def set_(name: str, settings: tuple[str, ...], *, json_: bool) -> None:
        """Make it, or change the settings given. Daemons follow within a second.

        VALUE is a number, a text, `true`, a list as `[reset, alert]`, or `null`: what a type inherits, or a limit lacks.
        A key is a text whatever it looks like (`key=42`); in double quotes `null` is one too (`key='"null"'`).
        """
        _change(section, name, dict(_setting(text) for text in settings), json_=json_)

    if section in REMOVABLE:

        @group.command()
        @click.argument("name")
        @click.option("--json", "json_", is_flag=True)
        def remove(name: str, *, json_: bool) -> None:
            """Remove it."""
            _change(section, name, None, json_=json_)

    return group


def difference(changes: Iterable[Change]) -> str:
    """Changes for people, a line per setting: + made, - gone, ~ changed."""
    lines = []
    for change in changes:
        mark = "+" if change.made else "-" if change.gone else "~"
        path = f"{change.section}.{change.name}"
        if change.gone or not change.settings:
            lines.append(f"{mark} {path}")
            continue
        for key, (before, after) in sorted(change.settings.items()):
            was = "" if change.made else f"{_word(before)} → "
            lines.append(f"{mark} {path}.{key}  {was}{_word(after)}")
    return "\n".join("".join(char for char in line if char.isprintable()) for line in lines)


def changes_as_json(changes: Iterable[Change]) -> str:
    """Changes for programs."""
    return as_json(
        [
            {
                "section": change.section,
                "name": change.name,
                "action": "make" if change.made else "remove" if change.gone else "change",
                "settings": {
                    key: {"from": before, "to": after} for key, (before, after) in change.settings.items()
                },
            }
            for change in changes
        ]
    )


def _change(section: str, name: str, settings: dict[str, object] | None, *, json_: bool) -> None:
    from outboxd.db import rulebook  # noqa: PLC0415 - psycopg

    change = rulebook.change(database_url(), section, name, settings)
    changes = [change] if change else []
    click.echo(changes_as_json(changes) if json_ else difference(changes) or "nothing to change")


def _setting(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"must be KEY=VALUE, not {text!r}", param_hint="KEY=VALUE")
    return key.strip(), (_text if key.strip() in TEXTS else _read)(value.strip())


def _text(value: str) -> str | None:
    if value == "null":
        return None
    return value[1:-1] if re.fullmatch(r'".*"', value) else value


def _read(value: str) -> object:
    if re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if re.fullmatch(r"-?\d{1,9}\.\d{1,9}", value):
        return float(value)
    if value == "null":
        return None
    if value in {"true", "false"}:
        return value == "true"
    if value.startswith("[") and value.endswith("]"):
        return [item.strip().strip("\"'") for item in value[1:-1].split(",") if item.strip()]
    return value


def _shown(value: object, *, flat: bool) -> object:
    """Durations as they are written; lists in one line where that is wanted."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        for unit, size in UNITS:
            if seconds and seconds % size == 0:
                return f"{seconds / size:.0f} {unit}"
        return f"{seconds:g} s"
    if flat and isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return value


def _word(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
