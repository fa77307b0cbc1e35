"""What a program says of its schema, and what it says of a database's."""

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from outboxd.db.contract import check, head, revision
from outboxd.errors import SchemaError


def test_the_newest_revision_by_its_file_is_the_newest_by_its_chain():
    config = Config()
    config.set_main_option("script_location", "outboxd.migrations:")
    config.set_main_option("path_separator", "os")
    assert head() == ScriptDirectory.from_config(config).get_current_head()


def test_a_migrated_database_is_what_the_daemon_needs(database):
    check(database)


def test_a_database_that_was_never_migrated_is_told_what_to_do(empty_database):
    with psycopg.connect(empty_database) as conn:
        assert revision(conn) is None
    with pytest.raises(SchemaError, match=r"schema is at nothing, .* run `outboxd migrate`"):
        check(empty_database)


def test_functions_of_another_release_are_told(conn, database):
    conn.execute("comment on schema outboxd is 'outboxd contract 0000000000000000'")
    with pytest.raises(SchemaError, match="another release's: run `outboxd migrate`"):
        check(database)
