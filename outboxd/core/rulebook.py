"""The rulebook: all policy as a TOML file that people keep beside their code. Pure.

    [limits.gmail_day]
    kind = "provider_day"
    most = 2000

A section that a file has is meant whole: a type or limit that it leaves out is removed, and so is a setting of one.
Queues stay, because email may wait in them, and so does what is left out of a queue. `dump` and `load` are inverse.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from outboxd.errors import ConfigError

Settings = Mapping[str, object]
Book = Mapping[str, Mapping[str, Settings]]

SECTIONS: Final = ("queues", "types", "limits")
REMOVABLE: Final = ("types", "limits")
UNSET: Final = {
    "types": ("max_attempts", "backoff", "backoff_base", "give_up_after"),
    "limits": ("key", "per", "exempt_types", "pace", "critical_share", "starts_on"),
}
ORDER: Final = (
    "kind", "key", "most", "per", "exempt_types", "pace", "critical_share", "starts_on", "queue", "priority", "weight",
    "critical", "max_attempts", "backoff", "backoff_base", "give_up_after", "dedupe_for", "keep_done_for", "keep_done",
    "keep_failed_for", "keep_failed",
)  # fmt: skip
HEADER: Final = """\
# outboxd's policy. `outboxd policy apply FILE` shows what it would change, and asks.
# A section that is here is meant whole: types and limits that are left out are removed.
"""
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_CONTROL: Final = {chr(code): f"\\u{code:04x}" for code in (*range(32), *range(127, 160))}
_ESCAPES: Final = _CONTROL | {'"': '\\"', "\\": "\\\\", "\t": "\\t"}
_LARGEST: Final = 10**18
_STRANGE: Final[Mapping[type, str]] = {dict: "a table (a name with dots is quoted)", list: "a list of others"}


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one queue, type or limit: per setting, from what to what; `made` and `gone` for all of it."""

    section: str
    name: str
    settings: Mapping[str, tuple[object, object]]
    made: bool = False
    gone: bool = False


def load(text: str) -> Book:
    """The book in a TOML file. Raises `ConfigError` with every mistake; what settings mean is the database's to judge."""
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a whole number of 5,000 digits is a plain ValueError
        raise ConfigError([f"not TOML: {error}"]) from None
    mistakes = [
        f"{section}: is not a section of policy; those are {', '.join(SECTIONS)}"
        for section in found
        if section not in SECTIONS
    ]
    for section in SECTIONS:
        entries = found.get(section, {})
        if not isinstance(entries, dict):
            mistakes.append(f"{section}: must be a table, such as [{section}.name]")
            continue
        mistakes += [
            f"{section}.{name}: must be a table, [{section}.{_key(name)}]"
            for name, settings in entries.items()
            if not isinstance(settings, dict)
        ]
    if mistakes:
        raise ConfigError(mistakes)
    return {section: found[section] for section in SECTIONS if section in found}


def dump(book: Book) -> str:
    """The TOML text of a book, its sections in their order, names sorted."""
    lines = [HEADER.rstrip()]
    for section in SECTIONS:
        if section in book and not book[section]:
            lines += ["", f"[{section}]"]
        for name, settings in sorted(book.get(section, {}).items()):
            lines += ["", f"[{section}.{_key(name)}]"]
            lines += [f"{_key(key)} = {_value(settings[key])}" for key in sorted(settings, key=_place)]
    return "\n".join(lines) + "\n"


def whole(section: str, settings: Settings) -> Settings:
    """Settings of a file as the database takes them: what was left out of a type or limit is null, and so unset."""
    return dict.fromkeys(UNSET.get(section, ())) | dict(settings)


def path(section: str, *names: str) -> str:
    """The key of a queue, type or limit, or of a setting of it, as TOML has it: `limits."a b".most`."""
    return ".".join([section, *map(_key, names)])


def unfit(section: str, name: str, settings: Settings | None) -> list[str]:
    """What no policy can hold and no database reads, one line each with its whole key; empty where all is fit."""
    named = {path(section, name): _text_problem(name)}
    values = {path(section, name, key): _problem(key, value) for key, value in (settings or {}).items()}
    return [f"{where}: {problem}" for where, problem in (named | values).items() if problem]


def _problem(key: str, value: object) -> str | None:
    if problem := _text_problem(key):
        return problem
    match value:
        case None | bool():
            return None
        case str():
            return _text_problem(value)
        case list() if all(isinstance(item, str) for item in value):
            return next(filter(None, map(_text_problem, value)), None)
        case int() | float():
            return None if abs(value) < _LARGEST else "must be a finite number below 10^18"
        case _:
            given = _STRANGE.get(type(value), f"a {type(value).__name__}")
            return f"must be a text, a number, true, false or a list of texts, not {given}"


def _text_problem(text: str) -> str | None:
    """A text that Postgres cannot hold: one with a NUL character, or with bytes that are not UTF-8."""
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        return "must be text in UTF-8 without NUL characters"
    return None


def _place(key: str) -> tuple[int, str]:
    return (ORDER.index(key) if key in ORDER else len(ORDER), key)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return '"' + "".join(_ESCAPES.get(char, char) for char in value) + '"'
        case list():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case _:
            raise TypeError(f"{type(value).__name__} is not a value of policy")
