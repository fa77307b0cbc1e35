"""What a program says of its schema, and what it says of a database's."""

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from outboxd.db.contract import SERVES, Placed, check, contract_digest, head, placed, revision
from outboxd.db.migrate import migrate
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


class TestAReleaseBehind:
    """The previous release's daemon runs on the next release's schema, and starts on it again."""

    def placed(self, conn: psycopg.Connection, text: str, *, revision: str | None = None) -> None:
        conn.execute(f"comment on schema outboxd is '{text}'")
        if revision:
            conn.execute("update outboxd.schema_version set version_num = %s", (revision,))

    def test_it_starts_on_a_later_revision_that_serves_its_own(self, conn, database):
        self.placed(conn, f"outboxd serves {head()}; contract 0123", revision="9999")
        check(database)

    @pytest.mark.parametrize("text", ["outboxd serves 9998; contract 0123", "outboxd contract 0123"])
    def test_it_is_refused_by_a_later_revision_that_does_not(self, conn, database, text):
        self.placed(conn, text, revision="9999")
        with pytest.raises(
            SchemaError, match=r"at 9999, too new for this program .*: install the newer outboxd"
        ):
            check(database)

    def test_it_starts_where_later_functions_followed_its_own(self, conn, database):
        self.placed(conn, f"outboxd serves 0001; before 01 {contract_digest()} 02; contract 03")
        check(database)

    def test_a_later_program_does_not_start_where_earlier_functions_came_back(self):
        later = Placed("a1").followed_by("b2").followed_by("c3")
        assert later == Placed("c3", ("a1", "b2"), SERVES)
        assert later.followed_by("b2") == Placed("b2", ("a1",), SERVES)

    def test_what_is_migrated_again_forgets_nothing(self):
        assert Placed("b2", ("a1",)).followed_by("b2") == Placed("b2", ("a1",), SERVES)

    def test_migrate_leaves_behind_what_was_in_place(self, conn, database):
        self.placed(conn, "outboxd contract 0123")
        migrate(database)
        assert placed(conn) == Placed(contract_digest(), ("0123",), SERVES)

    def test_every_schema_serves_at_least_the_revision_before_its_own(self):
        config = Config()
        config.set_main_option("script_location", "outboxd.migrations:")
        config.set_main_option("path_separator", "os")
        known = sorted(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())
        assert SERVES in known[:-1]
