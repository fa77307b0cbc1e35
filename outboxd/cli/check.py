"""`outboxd check`: what would keep the daemon from sending, found before it does."""

import sys
from typing import TYPE_CHECKING

import click

from outboxd.cli.settings import settings
from outboxd.errors import ConfigError

if TYPE_CHECKING:
    from outboxd.checkup import Finding

COLOURS = {"ok": "green", "note": "yellow", "FAIL": "red"}


@click.command()
def check() -> None:
    """Check configuration, database, grants, pooler, clock, listener and key. Sends no email; exit 1 if one fails."""
    from outboxd.checkup import Finding, findings  # noqa: PLC0415 - psycopg, alembic, httpx

    grades: list[str] = []
    try:
        config = settings(require={"database.url", "resend.api_key"})
    except ConfigError as error:
        for mistake in error.mistakes:
            _print(Finding("config", "FAIL", mistake))
        grades = ["FAIL"] * len(error.mistakes)
    else:
        for finding in findings(config):
            _print(finding)
            grades.append(finding.grade)
    failed = grades.count("FAIL")
    click.echo(click.style(f"\n{failed} to mend" if failed else "\nready to send", bold=True))
    sys.exit(1 if failed else 0)


def _print(finding: "Finding") -> None:
    grade = click.style(f"{finding.grade:4}", fg=COLOURS[finding.grade], bold=finding.grade == "FAIL")
    click.echo(f"{grade}  {finding.name:10} {finding.detail}")
    if finding.remedy:
        click.echo(f"{'':16} → {finding.remedy}")
