"""A planted bug, and the copy of the source tree in which it is planted."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDERS = {"outboxd": "outboxd", "sql": "outboxd/sql", "migrations": "outboxd/migrations"}


class Rotten(Exception):  # noqa: N818 - it says what the canary is
    """A canary that does not fit the source any more: it must learn where its bug belongs now."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one file; `old` stands there exactly once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Canary:
    """A bug: what law it breaks, and what must catch it: a storm by one of `rules`, or the test that holds the law."""

    name: str
    law: str
    edits: Sequence[Edit]
    storm: str = ""
    rules: frozenset[str] = frozenset()
    test: str = ""


def edited(edits: Sequence[Edit], source: Path = ROOT) -> dict[str, str]:
    """The files that the edits change, with the edits made. Raises `Rotten` where one does not fit."""
    texts: dict[str, str] = {}
    for edit in edits:
        text = texts.get(edit.file) or (source / edit.file).read_text()
        if (found := text.count(edit.old)) != 1:
            raise Rotten(f"{edit.file} has {found} times, not once:\n{edit.old}")
        texts[edit.file] = text.replace(edit.old, edit.new)
    return texts


def plant(edits: Sequence[Edit], home: Path, source: Path = ROOT) -> Path:
    """A copy of the source with the edits made, as an importable tree. Raises `Rotten` where one does not fit."""
    texts = edited(edits, source)
    for folder, place in FOLDERS.items():
        shutil.copytree(source / folder, home / place, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in texts.items():
        folder, _, rest = file.partition("/")
        (home / FOLDERS[folder] / rest).write_text(text)
    return home
