"""Alembic's environment: one connection handed in by `outboxd.db.migrate`, or SQL text (`outboxd migrate --sql`)."""

from typing import Any

from alembic import context

connection = context.config.attributes.get("connection")
settings: dict[str, Any] = {
    "version_table": "schema_version",
    "version_table_schema": "outboxd",
    "transactional_ddl": True,
}

if connection is None:
    context.configure(dialect_name="postgresql", as_sql=True, **settings)
    with context.begin_transaction():
        context.run_migrations()
else:
    context.configure(connection=connection, **settings)
    with context.begin_transaction():
        context.run_migrations()
