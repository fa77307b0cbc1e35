"""Policy as operators handle it: listed, changed one by one, exported and applied whole.

A change is one call of a SQL function, which refuses nonsense and writes the operators' log. `apply` is one
transaction: all of a book or nothing, and only what was agreed to.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.rows import DictRow, dict_row

from outboxd.core.rulebook import REMOVABLE, SECTIONS, Book, Change, Settings, path, unfit, whole
from outboxd.db.query import query
from outboxd.db.session import Connection, connect
from outboxd.errors import ConfigError, DatabaseError

REFUSED: Final = (psycopg.DataError, psycopg.IntegrityError)


def listing(url: str, section: str) -> list[DictRow]:
    """The rows of `queue_policy`, `type_policy` or `limit_policy`, by name."""
    texts = {
        "queues": query("policy/queues"),
        "types": query("policy/types"),
        "limits": query("policy/limits"),
    }
    with _connected(url) as conn, conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(texts[section].encode()).fetchall()


def change(url: str, section: str, name: str, settings: Settings | None) -> Change | None:
    """Make, change or (None) remove one; None where nothing changed. Raises `DatabaseError` naming the setting."""
    if mistakes := unfit(section, name, settings):
        raise DatabaseError("; ".join(mistakes))
    with _connected(url) as conn:
        try:
            return _set(conn, section, name, settings, known=name in _whole(conn)[section])
        except REFUSED as error:
            raise DatabaseError(_problem(error)) from None


def export(url: str) -> dict[str, dict[str, dict[str, object]]]:
    """All policy."""
    with _connected(url) as conn:
        return _whole(conn)


def apply(url: str, book: Book, agree: Callable[[list[Change]], bool]) -> bool:
    """Make policy what the book says, if `agree` says so of the difference; False where it did not.

    Raises `ConfigError` with everything in the book that is refused, and then changes nothing, and `DatabaseError`
    where policy was changed by somebody else meanwhile.
    """
    with _connected(url) as conn:
        shown = _try(conn, book)
        if not shown:
            return True
        if not agree(shown):
            return False
        _try(conn, book, agreed=shown)
        return True


def _try(conn: Connection, book: Book, *, agreed: list[Change] | None = None) -> list[Change]:
    """The changes that the book makes; kept only if they are those agreed to."""
    with conn.transaction() as attempt:
        changes, mistakes = _write(conn, book)
        if mistakes or agreed is None:
            raise psycopg.Rollback(attempt)
        if changes != agreed:
            raise DatabaseError(
                "policy was changed by somebody else meanwhile; nothing was applied: look again"
            )
    if mistakes:
        raise ConfigError(mistakes)
    return changes


def _write(conn: Connection, book: Book) -> tuple[list[Change], list[str]]:
    """Remove what the book leaves out, set what it has; every change, and every refusal of one.

    What stands as the book has it is none, though it would be refused today: an export can always be applied.
    """
    changes, mistakes = [], []
    before = _whole(conn)
    wanted: list[tuple[str, str, Settings | None]] = [
        (section, name, None)
        for section in REMOVABLE
        if section in book
        for name in sorted(before[section])
        if name not in book[section]
    ]
    wanted += [
        (section, name, whole(section, settings))
        for section in SECTIONS
        for name, settings in book.get(section, {}).items()
    ]
    for section, name, settings in wanted:
        if strange := unfit(section, name, settings):
            mistakes += strange
            continue
        try:
            with conn.transaction():
                made = _set(conn, section, name, settings, known=name in before[section])
        except REFUSED as error:
            stands = before[section].get(name)
            if stands is None or settings != whole(section, stands):
                mistakes.append(f"{path(section, name)}.{_problem(error)}")
        else:
            changes += [made] if made else []
    return changes, mistakes


def _set(
    conn: Connection, section: str, name: str, settings: Settings | None, *, known: bool
) -> Change | None:
    texts = {
        "queues": query("policy/set_queue"),
        "types": query("policy/set_type"),
        "limits": query("policy/set_limit"),
    }
    given = None if settings is None else json.dumps(settings)
    row = conn.execute(texts[section].encode(), {"name": name, "settings": given}).fetchone()
    changed: dict[str, Any] = row[0] if row else {}
    if not changed and known:
        return None
    settings_changed = {key: (both["from"], both["to"]) for key, both in changed.items()}
    return Change(section, name, settings_changed, made=not known, gone=settings is None)


def _whole(conn: Connection) -> dict[str, dict[str, dict[str, object]]]:
    row = conn.execute(query("policy/whole").encode()).fetchone()
    assert row is not None
    found: dict[str, dict[str, dict[str, object]]] = row[0]
    return found


def _problem(error: psycopg.Error) -> str:
    hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
    return f"{error.diag.message_primary or error}{hint}"


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    try:
        conn = connect(url, "cli")
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise DatabaseError(f"cannot reach the database: {reason}") from None
    with conn:
        try:
            yield conn
        except (
            psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedFunction,
            psycopg.errors.InvalidSchemaName,
        ):
            raise DatabaseError("the schema is not this program's: run `outboxd migrate`") from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f"{error.diag.message_primary}: policy needs the role outboxd_admin"
            ) from None
        except psycopg.Error as error:
            raise DatabaseError(_problem(error)) from None
