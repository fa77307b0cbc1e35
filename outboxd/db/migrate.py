"""Bring a database to this program's schema: revisions forward, then functions and views again, then grants.

Explicit (`outboxd migrate`), safe when several run at once (they queue on a lock), one transaction, repeatable: where
nothing changed, nothing is locked. The previous release's daemon runs on the next release's schema.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.pool import NullPool

from outboxd.db.contract import Placed, contract, contract_digest, head, placed, revision, roles
from outboxd.db.refusal import reason
from outboxd.db.session import connect
from outboxd.errors import DatabaseError, SchemaError

OLDEST_SERVER: Final = 150000
LOCK: Final = "select pg_advisory_xact_lock(7101, 0)"
ENSURE_SCHEMA: Final = "create schema if not exists outboxd"
CLOSED_TO_PUBLIC: Final = """
revoke all on schema outboxd from public;
revoke execute on all functions in schema outboxd from public;
"""
MISSING_ROLES: Final = """
select name from unnest(array['owner', 'app', 'daemon', 'webhook', 'admin', 'grafana']) as suffix
cross join lateral (select 'outboxd_' || suffix as name) as named
where to_regrole(name) is null
"""


def migrate(url: str) -> list[str]:
    """Upgrade the database behind `url`; the roles that are missing, because this one may not create them.

    Raises `DatabaseError` or `SchemaError` with what to do.
    """
    with _engine(url) as engine, engine.begin() as connection:
        raw = _raw(connection)
        _require_supported(raw)
        connection.exec_driver_sql(LOCK)
        if not _has_schema(raw):
            connection.exec_driver_sql(ENSURE_SCHEMA)
        _refuse_newer(raw)
        if revision(raw) != head() or placed(raw).digest != contract_digest():
            _upgrade(connection, raw)
        raw.execute(roles().encode())
        return [name for (name,) in raw.execute(MISSING_ROLES).fetchall()]


def _upgrade(connection: sqlalchemy.Connection, raw: psycopg.Connection) -> None:
    now = placed(raw).followed_by(contract_digest())
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    for statement in contract():
        raw.execute(statement.encode())
    raw.execute("select outboxd.extend_partitions()")
    raw.execute(CLOSED_TO_PUBLIC.encode())
    raw.execute(f"comment on schema outboxd is '{now}'".encode())


def sql() -> str:
    """Everything `migrate` does to an empty database, as SQL text."""
    out = io.StringIO()
    config = _config()
    config.output_buffer = out
    command.upgrade(config, "head", sql=True)
    begin = f"BEGIN;\n\n{LOCK};\n{ENSURE_SCHEMA};"
    revisions = out.getvalue().replace("BEGIN;", begin, 1).rsplit("COMMIT;", 1)[0]
    parts = [
        revisions,
        *(f"{statement.strip()}\n" for statement in contract()),
        "select outboxd.extend_partitions();",
        CLOSED_TO_PUBLIC.strip(),
        f"comment on schema outboxd is '{Placed().followed_by(contract_digest())}';",
        roles().strip(),
    ]
    return "\n".join([*parts, "COMMIT;", ""])


@contextmanager
def _engine(url: str) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: _transactional(url), poolclass=NullPool
    )
    try:
        yield engine
    except (psycopg.OperationalError, sqlalchemy.exc.OperationalError) as error:
        raise DatabaseError(f"cannot reach the database: {reason(getattr(error, 'orig', error))}") from None
    except sqlalchemy.exc.ProgrammingError as error:
        raise DatabaseError(str(error.orig).strip().splitlines()[0]) from error
    finally:
        engine.dispose()


def _transactional(url: str) -> psycopg.Connection:
    conn = connect(url, "migrate")
    conn.autocommit = False
    return conn


def _raw(connection: sqlalchemy.Connection) -> psycopg.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


def _require_supported(raw: psycopg.Connection) -> None:
    if raw.info.server_version < OLDEST_SERVER:
        raise SchemaError(
            f"PostgreSQL {raw.info.server_version // 10000} is too old: outboxd needs 15 or newer"
        )


def _has_schema(raw: psycopg.Connection) -> bool:
    return raw.execute("select to_regnamespace('outboxd') is not null").fetchone() == (True,)


def _refuse_newer(raw: psycopg.Connection) -> None:
    found = revision(raw)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaError(
            f"schema is at {found}, newer than this program ({head()}): install the newer outboxd"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "outboxd.migrations:")
    config.set_main_option("path_separator", "os")
    return config
