"""`outboxd enqueue`: insert one email from the shell."""

import json
import sys

import click

from outboxd.cli.settings import database_url


@click.command()
@click.argument("payload", default="-")
@click.option(
    "--type", "type_", required=True, help="Picks the retry policy, and the queue where none is given."
)
@click.option("--queue", help="Default: the type's, else transactional.")
@click.option("--dedupe-key", help="At most one email per key.")
@click.option("--scheduled-at", help="ISO 8601; default now.")
@click.option("--expires-at", help="ISO 8601; never sent after.")
@click.option("--priority", type=click.IntRange(1, 100), help="1 first to 100 last.")
@click.option("--max-attempts", type=click.IntRange(1, 100))
def enqueue(payload: str, type_: str, **options: str | int | None) -> None:
    """Insert one email. PAYLOAD is JSON in Resend's shape, `@FILE`, or `-` for standard input."""
    from outboxd.db import email  # noqa: PLC0415 - psycopg

    made = email.enqueue(database_url(), {"payload": _text(payload), "type": type_, **options})
    click.echo(f"{made['uid']}{' (duplicate)' if made['duplicate'] else ''}")


def _text(payload: str) -> str:
    try:
        if payload == "-":
            text = sys.stdin.read()
        elif payload.startswith("@"):
            with click.open_file(payload[1:], encoding="utf-8") as file:
                text = file.read()
        else:
            text = payload
        json.loads(text)
    except OSError as error:
        raise click.BadParameter(f"cannot be read: {error.strerror}", param_hint="PAYLOAD") from None
    except RecursionError:
        raise click.BadParameter("is nested too deep", param_hint="PAYLOAD") from None
    except ValueError as error:  # what is not UTF-8 too
        raise click.BadParameter(f"is not JSON: {error}", param_hint="PAYLOAD") from None
    return text
