"""How commands print: tables and fields for people, JSON for programs. Nothing a stranger wrote reaches the terminal raw."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime


def as_json(value: object) -> str:
    """Readable JSON; instants in ISO 8601."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=_plain)


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Aligned columns under their names, or a line that says that there is nothing."""
    if not rows:
        return "nothing to show"
    cells = [[name.upper().replace("_", " ") for name in columns]]
    cells += [[_cell(row.get(name))[:60] for name in columns] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    if sys.stdout.isatty():
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    return "\n".join(lines)


def fields(row: Mapping[str, object]) -> str:
    """One field per line; lists of objects as an indented table of their own."""
    width = max(len(name) for name in row)
    lines = []
    for name, value in row.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(f"{name.ljust(width)}")
            lines += [f"  {line}" for line in table(value, list(value[0])).splitlines()]
        elif value not in (None, [], ""):
            lines.append(f"{name.ljust(width)}  {_cell(value)}")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S%z")
    text = as_json(value) if isinstance(value, dict | list) else str(value)
    return "".join(char if char.isprintable() else " " for char in text)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
