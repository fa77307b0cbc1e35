"""The configuration in force, and how it changes while the daemon runs.

A reload reads all sources again. What may change takes effect at once; what needs a restart keeps its value and is
named; a wrong configuration changes nothing.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Final

from outboxd.config import Config

CHANGEABLE: Final = frozenset({"resend.api_key", "sender.crash_limit", "log.level"})


@dataclass(frozen=True, slots=True)
class Change:
    """Keys that took a new value, and keys whose new value waits for a restart."""

    taken: list[str]
    waiting: list[str]


class Live:
    """Holds the configuration in force; `config` may be read from any thread, `reload` is for one."""

    def __init__(self, config: Config, read: Callable[[], Config]) -> None:
        self.config = config
        self._read = read

    def api_key(self) -> str:
        """The key for the next request."""
        return self.config.resend.api_key.reveal()

    def reload(self) -> Change:
        """Read again. Raises `ConfigError` with every mistake, and has changed nothing then."""
        wanted = self._read()
        different = _differences(self.config, wanted)
        taken = {key: value for key, value in different.items() if key in CHANGEABLE}
        self.config = _with(self.config, taken)
        return Change(sorted(taken), sorted(different.keys() - taken.keys()))


def _differences(old: Config, new: Config) -> dict[str, Any]:
    """The new values by key, where they differ."""
    found: dict[str, Any] = {}
    for section in fields(Config):
        before, after = getattr(old, section.name), getattr(new, section.name)
        if section.default is not MISSING:
            found |= {section.name: after} if before != after else {}
            continue
        for item in fields(before):
            if getattr(before, item.name) != getattr(after, item.name):
                found[f"{section.name}.{item.name}"] = getattr(after, item.name)
    return found


def _with(config: Config, values: dict[str, Any]) -> Config:
    for key, value in values.items():
        section, _, name = key.partition(".")
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return config
