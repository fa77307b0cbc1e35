"""The configuration of the command that runs: file, environment, and what the command's own options override."""

from collections.abc import Collection, Mapping

import click

from outboxd.config import Config, environment, load


def settings(*, require: Collection[str] = (), overrides: Mapping[str, object] | None = None) -> Config:
    """Load it. Raises `ConfigError` with every mistake at once; `require` names keys that must have a value."""
    path = click.get_current_context().find_root().params.get("config")
    return load(path, environment(), overrides or {}, require=frozenset(require))


def database_url() -> str:
    """Where the database is."""
    return settings(require={"database.url"}).database.url.reveal()
