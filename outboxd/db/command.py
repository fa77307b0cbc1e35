"""One statement for a person's command: connect, run, and say in one line what went wrong."""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from outboxd.db.refusal import reason
from outboxd.db.session import connect
from outboxd.errors import DatabaseError


def connected(url: str) -> psycopg.Connection[Any]:
    """A connection in autocommit mode. Raises `DatabaseError`."""
    try:
        return connect(url, "cli")
    except psycopg.OperationalError as error:
        raise DatabaseError(f"cannot reach the database: {reason(error)}") from None


def rows(url: str, statement: str, values: Mapping[str, Any]) -> list[DictRow]:
    """What the statement returns. Raises `DatabaseError`."""
    with connected(url) as conn, conn.cursor(row_factory=dict_row) as cursor:
        try:
            return cursor.execute(statement.encode(), values).fetchall()
        except psycopg.Error as error:
            raise explained(error) from None


def explained(error: psycopg.Error) -> DatabaseError:
    """The error as one line with its remedy; no value of a row is in it."""
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return DatabaseError("outboxd's schema is not in this database: run `outboxd migrate`")
    if isinstance(error, psycopg.errors.UndefinedFunction | psycopg.errors.UndefinedColumn):
        return DatabaseError("the schema is another release's: run `outboxd migrate`")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return DatabaseError(f"{error.diag.message_primary}: log in as a member of outboxd_admin")
    if error.diag.message_primary is None:
        return DatabaseError(f"the connection to the database was lost ({type(error).__name__})")
    hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
    return DatabaseError(f"{error.diag.message_primary}{hint}")
