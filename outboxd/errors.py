"""Every error outboxd raises on purpose, as one tree.

    OutboxdError
    ├── ConfigError        the configuration is wrong; lists every mistake at once (exit 78 in `outboxd run`)
    ├── SchemaError        the database is older or newer than this program; says what to run
    ├── DatabaseError      Postgres cannot be reached, or refused for good
    ├── LocalPostgresError no local server could be started; names the ways out
    └── NotFoundError      what was asked for does not exist

Errors carry facts, messages carry the remedy. What happens to one email is never an exception but an
outcome (`core/outcome.py`).
"""


class OutboxdError(Exception):
    """Base of all errors that outboxd raises on purpose."""


class ConfigError(OutboxdError):
    """The configuration is wrong.

    `mistakes` holds one line per mistake: the key's path, what is wrong, what was meant.
    """

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


class SchemaError(OutboxdError):
    """The schema in the database does not fit this program."""


class DatabaseError(OutboxdError):
    """Postgres cannot be reached, or refused for good."""


class LocalPostgresError(OutboxdError):
    """No local Postgres could be started."""


class NotFoundError(OutboxdError):
    """What was asked for does not exist."""
