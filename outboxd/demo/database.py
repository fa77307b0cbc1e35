"""A database of the demo's own on a server that is there already: made at the start, dropped at the end.

The demo lifts limits and creates tables, so it never works in the database that the URL names. It is dropped also at
Ctrl-C, SIGTERM and SIGHUP; after a kill -9 it stays, under a name that begins with `outboxd_demo_`. Roles that the
migration made are dropped too, but for those that another database uses by then.
"""

import contextlib
import secrets
import signal
from collections.abc import Callable, Iterator
from typing import Final

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from outboxd.db.migrate import MISSING_ROLES
from outboxd.db.refusal import reason
from outboxd.db.session import Connection, connect
from outboxd.errors import DatabaseError

PREFIX: Final = "outboxd_demo_"
ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CREATE: Final = sql.SQL("create database {} template template0 encoding 'UTF8'")
DROP: Final = sql.SQL("drop database {}")
DROP_ROLE: Final = sql.SQL("drop role if exists {}")
PATIENCE: Final = "set statement_timeout = '20 s'"


@contextlib.contextmanager
def own_database(url: str, say: Callable[[str], None]) -> Iterator[str]:
    """The URL of a new database on `url`'s server. For the main thread.

    Raises `DatabaseError` where the server cannot be reached or the role may not create databases.
    """
    name = PREFIX + secrets.token_hex(4)
    with _interruptible():
        roles = _create(url, name)
        try:
            say(f"in a database of its own, {name}, which is dropped at the end")
            yield make_conninfo(url, dbname=name)
        finally:
            for number in ENDS:
                signal.signal(number, signal.SIG_IGN)  # who is impatient would leave it there
            try:
                _drop(url, name, roles)
            except psycopg.Error as error:
                say(f"the database {name} is still there ({reason(error)}): drop it yourself")


def _create(url: str, name: str) -> list[str]:
    """Make it; the roles that the migration will have to make."""
    try:
        with connect(url, "demo") as conn:
            return _create_on(conn, name)
    except psycopg.OperationalError as error:
        raise DatabaseError(f"cannot reach the database: {reason(error)}") from None


def _create_on(conn: Connection, name: str) -> list[str]:
    try:
        conn.execute(CREATE.format(sql.Identifier(name)))
    except errors.InsufficientPrivilege:
        raise DatabaseError(
            f"the demo makes a database of its own, and the role {conn.info.user} may not create databases: "
            f"`alter role {conn.info.user} createdb`, name another role in --database, or leave it out for a local Postgres"
        ) from None
    except psycopg.Error as error:
        raise DatabaseError(f"the demo cannot make a database of its own: {reason(error)}") from None
    return [role for (role,) in conn.execute(MISSING_ROLES).fetchall()]


def _drop(url: str, name: str, roles: list[str]) -> None:
    with connect(url, "demo") as conn:
        conn.execute(PATIENCE)
        statement = DROP.format(sql.Identifier(name))
        try:
            conn.execute(statement)  # ends autovacuum, which `force` may not do for everybody
        except errors.ObjectInUse:
            conn.execute(statement + sql.SQL(" with (force)"))
        for role in roles:
            with contextlib.suppress(errors.DependentObjectsStillExist, errors.InsufficientPrivilege):
                conn.execute(DROP_ROLE.format(sql.Identifier(role)))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end us as Ctrl-C does: by an exception, so that what stands in `finally` is done."""
    previous = {number: signal.getsignal(number) for number in ENDS}
    for number in ENDS[1:]:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
