"""What of the schema this program brings itself: revisions, functions, views and rights; and whether a database has them.

Read at each start of the daemon, so it needs nothing of what migrates.
"""

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import psycopg

from outboxd.db.refusal import reason
from outboxd.db.session import connect
from outboxd.errors import DatabaseError, SchemaError

# Functions are late bound, but trigger and view definitions are not: these come in this order, the rest by name.
ORDER: Final = ("released", "accept_email", "queue_emails", "pauses", "email_status", "status")


def check(url: str) -> None:
    """Raise `SchemaError` unless the database is at this program's schema, `DatabaseError` where it cannot be asked."""
    try:
        with connect(url, "check") as conn:
            found, in_place = revision(conn), digest_in_place(conn)
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseError(str(error).strip().splitlines()[0]) from error
    except psycopg.Error as error:  # a broken connection is not always an OperationalError
        raise DatabaseError(f"cannot reach the database: {reason(error)}") from None
    if found != head():
        raise SchemaError(
            f"schema is at {found or 'nothing'}, this program needs {head()}: run `outboxd migrate`"
        )
    if in_place != contract_digest():
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


def digest_in_place(conn: psycopg.Connection) -> str | None:
    """The digest of the contract that the database has; None where it has none."""
    row = conn.execute("select obj_description(to_regnamespace('outboxd'), 'pg_namespace')").fetchone()
    return str(row[0]).rpartition(" ")[2] if row and row[0] else None


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
