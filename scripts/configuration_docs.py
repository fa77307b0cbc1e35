"""Print docs/configuration.md from the dataclasses."""

from dataclasses import MISSING, Field, fields
from datetime import timedelta

from outboxd.config import Config
from outboxd.setting import Secret

INTRO = """# Configuration

GENERATED from `outboxd/config.py` by `make docs`.

One daemon reads `--config FILE` (`outboxd --config FILE run`), else `$OUTBOXD_CONFIG`, else `/etc/outboxd/outboxd.toml` if it exists.
Then, each over the one before: the credentials `resend_api_key` and `database_url` of the service manager; `DATABASE_URL`, `RESEND_API_KEY`, `RESEND_API_URL` and `OUTBOXD_ENVIRONMENT`; `OUTBOXD_SECTION__KEY`, such as `OUTBOXD_SENDER__THREADS=40`; options of the command.
A wrong configuration reports every mistake at once. Durations look like `20s`, `500ms`, `2m`.
What a fleet must agree on, such as the retry policy of queues and types, is data in Postgres: see [sql.md](sql.md).
"""


def shown(value: object) -> str:
    """A default as one would write it in TOML."""
    if value is None or isinstance(value, Secret) or value is MISSING:
        return "(none)"
    if isinstance(value, timedelta):
        return f'`"{value.total_seconds():g}s"`'
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def row(item: "Field[object]") -> str:
    """One setting's line."""
    return f"| `{item.name}` | {shown(item.default)} | {item.metadata['doc']} |"


def page() -> str:
    """The text of docs/configuration.md."""
    parts = [INTRO, "## Top level\n\n| key | default | what it does |\n|---|---|---|"]
    parts += [row(item) for item in fields(Config) if item.default is not MISSING]
    parts.append("")
    for section in (part for part in fields(Config) if part.default is MISSING):
        kind = section.default_factory
        parts.append(
            f"## [{section.name}]\n\n{kind.__doc__}\n\n| key | default | what it does |\n|---|---|---|"
        )
        parts += [row(item) for item in fields(kind)]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
