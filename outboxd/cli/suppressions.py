"""`outboxd suppressions`: list, add, remove, import, export."""

import csv
import io
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click

from outboxd.cli.printing import as_json, table
from outboxd.cli.settings import database_url
from outboxd.core.suppression import REASONS, ColumnsError, Counts, instant, read, refused

COLUMNS = ("address", "scope", "reason", "source", "cause", "expires_at", "created_at")
LINES_ON_STDERR = 20  # bad lines named there; a file of rejects holds all of them
PLAIN_EVERY = 100_000  # records between two lines of progress where there is no terminal
UNKNOWN_SCOPE = "note: no queue or type with a policy has the name of this scope"


def _instant(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    try:
        return instant(value) if value else None
    except ValueError:
        raise click.BadParameter("is not an instant in ISO 8601, such as 2027-01-31T12:00:00Z") from None


@click.group()
def suppressions() -> None:
    """Keep the list of addresses that get no email: none at all, or none of one queue or type."""


@suppressions.command("list")
@click.option("--address", help="In any spelling; finds an erased one too.")
@click.option("--scope", help="all, or the name of a queue or type.")
@click.option("--reason", type=click.Choice(REASONS))
@click.option("--source")
@click.option("--expired", is_flag=True, help="With those that have expired.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--json", "json_", is_flag=True)
def list_(*, limit: int, expired: bool, json_: bool, **filters: str | None) -> None:
    """The newest suppressions that fit."""
    from outboxd.db import suppression  # noqa: PLC0415 - psycopg

    found = suppression.listing(database_url(), limit=limit, expired=expired, **filters)
    click.echo(as_json(found) if json_ else table(found, COLUMNS))


@suppressions.command()
@click.argument("address")
@click.option("--reason", type=click.Choice(REASONS), required=True)
@click.option(
    "--scope", default="all", show_default=True, help="all, marketing, or another queue's or type's name."
)
@click.option("--source", default="cli", show_default=True, help="Where it comes from.")
@click.option("--cause", help="Why, in a few words, for whoever looks later.")
@click.option("--expires-at", callback=_instant, help="ISO 8601; default: never.")
def add(**values: str | datetime | None) -> None:
    """Send no more email to ADDRESS."""
    from outboxd.db import suppression  # noqa: PLC0415 - psycopg

    done = suppression.add(database_url(), **values)
    if not done["known_scope"]:
        click.echo(UNKNOWN_SCOPE, err=True)
    click.echo("suppressed" if done["changed"] else "was suppressed already, as gravely and as long")


@suppressions.command()
@click.argument("address")
@click.option("--scope", help="Default: every scope.")
@click.option(
    "--erased", is_flag=True, help="Even what an erasure left (gdpr): the person asked for email again."
)
def remove(address: str, scope: str | None, *, erased: bool) -> None:
    """Let email go to ADDRESS again. Exit 1 where nothing was taken away."""
    from outboxd.db import suppression  # noqa: PLC0415 - psycopg

    removed = suppression.remove(database_url(), address, scope=scope, erased=erased)
    click.echo(f"took away {removed}" if removed else "nothing to take away", err=not removed)
    click.get_current_context().exit(0 if removed else 1)


@suppressions.command("import")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--reason", type=click.Choice(REASONS), help="For lines without one; required where there is no column."
)
@click.option("--scope", help="For lines without one; default: all.")
@click.option("--source", help="For lines without one; default: import.")
@click.option("--cause", help="For lines without one.")
@click.option("--expires-at", help="For lines without one; ISO 8601, default: never.")
@click.option("--address-column", help="Take the addresses from this column, and ignore the others.")
@click.option("--delimiter", default=",", show_default=True)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    help="Write bad lines' numbers and reasons to this CSV file.",
)
def import_(
    file: BinaryIO, address_column: str | None, delimiter: str, rejects: Path | None, **defaults: str | None
) -> None:
    """Suppress the addresses of a CSV FILE in UTF-8 (`-` for standard input). Exit 1 where a line was bad.

    Columns: address (or email), scope, reason, source, cause, expires_at, metadata; without a header line, the
    first cell is the address. Good lines are committed 10,000 at a time, and running it again changes nothing.
    Lines that have expired are counted and left out. Scopes that no queue or type has are noted: they stop nothing.
    """
    from outboxd.db import suppression  # noqa: PLC0415 - psycopg

    if len(delimiter) != 1:
        raise click.BadParameter("must be one character", param_hint="--delimiter")
    url, now = database_url(), datetime.now(UTC)
    given = {name: value for name, value in defaults.items() if value}
    _refuse_bad(given, now=now)
    if "scope" in given and suppression.is_unknown_scope(url, given["scope"]):
        click.echo(UNKNOWN_SCOPE, err=True)
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    records = read(
        text,
        now=now,
        defaults=given,
        address_column=address_column,
        delimiter=delimiter,
    )
    with ExitStack() as stack:
        reject = stack.enter_context(_rejecting(rejects))
        progress = stack.enter_context(_progress(file))
        try:
            counts = suppression.take_in(url, records, reject=reject, progress=progress)
        except ColumnsError as error:
            raise click.UsageError(str(error)) from None
    _note(counts.unknown_scopes - {given.get("scope")})
    click.echo(
        f"added {counts.added}, changed {counts.changed}, kept {counts.kept}, expired {counts.expired},"
        f" bad lines {counts.bad}"
    )
    click.get_current_context().exit(1 if counts.bad else 0)


@suppressions.command()
@click.argument("file", type=click.File("wb"), default="-")
@click.option("--scope")
@click.option("--reason", type=click.Choice(REASONS))
def export(file: BinaryIO, scope: str | None, reason: str | None) -> None:
    """Write what holds to a CSV FILE (default: standard output), as `import` takes it."""
    from outboxd.db import suppression  # noqa: PLC0415 - psycopg

    erased = suppression.give_out(database_url(), file.write, scope=scope, reason=reason)
    if erased:
        click.echo(f"left out {erased} whose address was erased", err=True)


def _refuse_bad(defaults: Mapping[str, str], *, now: datetime) -> None:
    found = refused(defaults, now=now)
    if found:
        field, why = found
        raise click.BadParameter(why, param_hint=f"--{field.replace('_', '-')}")


def _note(scopes: Collection[str]) -> None:
    """The file's scopes that stop nothing. One that holds an @ may be somebody's address, and is not shown."""
    if not scopes:
        return
    named = [repr(scope) for scope in sorted(scopes) if "@" not in scope]
    if len(named) < len(scopes):
        named.append("and some with an @ (is the scope in its column?)")
    click.echo(
        f"note: no queue or type with a policy has the name of these scopes: {', '.join(named)}", err=True
    )


@contextmanager
def _rejecting(path: Path | None) -> Iterator[Callable[[int, str], None]]:
    """To a CSV file, else the first few to standard error. Never with the line itself: it holds an address."""
    if path is not None:
        with path.open("w", encoding="utf-8", newline="") as out:
            rejected = csv.writer(out)
            rejected.writerow(("line", "reason"))
            yield lambda line, reason: rejected.writerow((line, reason)) and None
        return
    told = 0

    def tell(line: int, reason: str) -> None:
        nonlocal told
        told += 1
        if told <= LINES_ON_STDERR:
            click.echo(f"line {line}: {reason}", err=True)
        elif told == LINES_ON_STDERR + 1:
            click.echo("more bad lines follow; --rejects FILE lists all of them", err=True)

    yield tell


@contextmanager
def _progress(file: BinaryIO) -> Iterator[Callable[[Counts], None]]:
    """A bar on a terminal, a line per 100,000 records elsewhere."""
    told = 0

    def tell(counts: Counts) -> None:
        nonlocal told
        if counts.done // PLAIN_EVERY > told:
            told = counts.done // PLAIN_EVERY
            click.echo(f"{counts.done} records, {counts.bad} bad", err=True)

    if not (sys.stderr.isatty() and file.seekable()):
        yield tell
        return
    with click.progressbar(length=os.fstat(file.fileno()).st_size, file=sys.stderr) as bar:
        yield lambda _: bar.update(file.tell() - bar.pos)
