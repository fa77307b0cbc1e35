"""What of the schema this program brings itself: revisions, functions, views and rights; and whether a database has them.

A database says whom it serves, in the comment on its schema: the oldest revision whose program may run on it, and the
contracts that were in place before. So a daemon that is one release behind runs, and starts again, on the next schema.
Read at each start of the daemon, so it needs nothing of what migrates.
"""

import hashlib
import logging
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import psycopg

from outboxd.db.refusal import reason
from outboxd.db.session import connect
from outboxd.errors import DatabaseError, SchemaError

log = logging.getLogger(__name__)

# The oldest revision whose daemon runs on this schema; raised when a revision takes something from it.
SERVES: Final = "0011"
KEPT: Final = 8  # former contracts that a database remembers
SAID: Final = re.compile(
    r"outboxd (serves (?P<serves>\w+); )?(before (?P<before>[\w ]+); )?contract (?P<digest>\w+)"
)
# Functions are late bound, but trigger and view definitions are not: these come in this order, the rest by name.
ORDER: Final = ("released", "accept_email", "queue_emails", "pauses", "lane_closed", "email_status", "status")


@dataclass(frozen=True, slots=True)
class Placed:
    """The contract that a database has: its digest, those it had before, and the oldest revision that it serves."""

    digest: str | None = None
    before: tuple[str, ...] = ()
    serves: str | None = None

    def followed_by(self, digest: str) -> "Placed":
        """With that contract in its place. One that was there before takes those after it out of the memory."""
        if digest in self.before:
            before = self.before[: self.before.index(digest)]
        else:
            before = (*self.before, *([self.digest] if self.digest not in {None, digest} else []))
        return Placed(digest, before[-KEPT:], SERVES)

    def __str__(self) -> str:
        before = f"before {' '.join(self.before)}; " if self.before else ""
        return f"outboxd serves {self.serves}; {before}contract {self.digest}"


def check(url: str) -> None:
    """Raise `SchemaError` unless the database is at this program's schema, or at a later one that serves it.

    `DatabaseError` where it cannot be asked.
    """
    try:
        with connect(url, "check") as conn:
            found, in_place = revision(conn), placed(conn)
    except psycopg.errors.InsufficientPrivilege as error:
        denied = str(error).strip().splitlines()[0]
        raise DatabaseError(
            f"{denied}: grant outboxd_daemon to this role, or run `outboxd migrate` first"
        ) from error
    except psycopg.Error as error:  # a broken connection is not always an OperationalError
        raise DatabaseError(f"cannot reach the database: {reason(error)}") from None
    if found is not None and found > head():
        if in_place.serves is None or in_place.serves > head():
            raise SchemaError(
                f"schema is at {found}, too new for this program ({head()}): install the newer outboxd"
            )
        log.warning(
            "the schema is a newer release's, and serves this one", extra={"schema": found, "own": head()}
        )
        return
    if found != head():
        raise SchemaError(
            f"schema is at {found or 'nothing'}, this program needs {head()}: run `outboxd migrate`"
        )
    if contract_digest() not in {in_place.digest, *in_place.before}:
        raise SchemaError("functions and views are another release's: run `outboxd migrate`")


def head() -> str:
    """The newest revision that this program knows; revisions are numbered, and their files named after them."""
    versions = files("outboxd.migrations") / "versions"
    return max(entry.name.partition("_")[0] for entry in versions.iterdir() if entry.name[:1].isdigit())


def revision(conn: psycopg.Connection) -> str | None:
    """The revision that the database is at; None where it never saw one."""
    if conn.execute("select to_regclass('outboxd.schema_version') is null").fetchone() == (True,):
        return None
    row = conn.execute("select version_num from outboxd.schema_version").fetchone()
    return str(row[0]) if row else None


def placed(conn: psycopg.Connection) -> Placed:
    """What the database says of its contract."""
    row = conn.execute("select obj_description(to_regnamespace('outboxd'), 'pg_namespace')").fetchone()
    said = SAID.fullmatch(str(row[0])) if row and row[0] else None
    return Placed(said["digest"], tuple((said["before"] or "").split()), said["serves"]) if said else Placed()


def contract() -> list[str]:
    """The functions and views, in the order in which they are applied."""
    root = files("outboxd.sql")
    found: dict[str, Traversable] = {
        entry.name.removesuffix(".sql"): entry
        for folder in ("functions", "views")
        for entry in (root / folder).iterdir()
        if entry.name.endswith(".sql")
    }
    first = [name for name in sorted(found) if name.startswith("check_")]
    rest = [name for name in sorted(found) if name not in ORDER and name not in first]
    functions = [name for name in rest if "create or replace view" not in found[name].read_text("utf-8")]
    views = [name for name in rest if name not in functions]
    return [found[name].read_text("utf-8") for name in (*first, *ORDER[:3], *functions, *ORDER[3:], *views)]


def roles() -> str:
    """The roles and every right they have, as SQL text; repeatable, and silent about what the caller may not do."""
    return (files("outboxd.sql") / "roles.sql").read_text("utf-8")


def contract_digest() -> str:
    """Identifies the functions, views and grants of this release."""
    return hashlib.sha256("\n".join([*contract(), roles()]).encode()).hexdigest()[:16]
