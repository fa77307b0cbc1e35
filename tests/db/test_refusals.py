"""What the golden file does not grant is refused, tried for every role and object; and no function is a way around it."""

import re
from pathlib import Path

import psycopg
import pytest
from psycopg import errors, sql

ROLES = ("app", "daemon", "webhook", "admin", "grafana")
GOLDEN = Path(__file__).with_name("grants.golden")


def granted() -> dict[tuple[str, str], set[str]]:
    """Privileges by (object, role); those of a column count for its table, in part."""
    found: dict[tuple[str, str], set[str]] = {}
    for line in GOLDEN.read_text().splitlines():
        name, _, rest = line.partition("  ")
        for role, words in re.findall(r"outboxd_(\w+): ([a-z, ]+)", rest):
            found.setdefault((name.partition(".")[0], role), set()).update(words.split(", "))
    return found


def relations(conn: psycopg.Connection) -> list[tuple[str, str, str]]:
    """Name, kind and a column of every table and view; partitions too."""
    return conn.execute(
        "select relname, relkind::text, (select attname from pg_attribute where attrelid = pg_class.oid and attnum > 0"
        " and not attisdropped and attgenerated = '' and attidentity = '' order by attnum desc limit 1)"
        " from pg_class where relnamespace = 'outboxd'::regnamespace and relkind in ('r', 'p', 'v', 'S')"
    ).fetchall()


def statements(name: str, kind: str, column: str | None) -> dict[str, sql.Composed]:
    table = sql.Identifier("outboxd", name)
    if kind == "S":
        return {"select": sql.SQL("select last_value from {}").format(table)}
    found = {"select": sql.SQL("select from {}").format(table)}
    if kind == "v":
        return found
    assert column is not None
    return found | {
        "insert": sql.SQL("insert into {} default values").format(table),
        "update": sql.SQL("update {} set {} = default where false").format(table, sql.Identifier(column)),
        "delete": sql.SQL("delete from {} where false").format(table),
        "truncate": sql.SQL("truncate {}").format(table),
        "alter": sql.SQL("alter table {} add column mine integer").format(table),
        "trigger": sql.SQL(
            "create trigger mine before insert on {} for each row execute function suppress_redundant_updates_trigger()"
        ).format(table),
        "drop": sql.SQL("drop table {}").format(table),
        "lock": sql.SQL("lock table {} in access exclusive mode").format(table),
    }


def is_refused(conn: psycopg.Connection, statement: sql.Composed | str) -> bool:
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(statement)
    except errors.InsufficientPrivilege:
        return True
    except psycopg.Error:
        return False
    return False


@pytest.mark.parametrize("role", ROLES)
def test_every_statement_on_every_table_that_is_not_granted_is_refused(conn, role):
    grants, found = granted(), relations(conn)
    conn.execute(f"set session authorization outboxd_{role}")
    tried, passed = 0, []
    for name, kind, column in found:
        mine = grants.get((name, role), set())
        locks = {"lock"} if mine & {"update", "delete", "truncate"} else set()
        for privilege, statement in statements(name, kind, column).items():
            if privilege not in mine | locks:
                tried += 1
                if not is_refused(conn, statement):
                    passed.append((name, privilege))
    assert tried > 150
    assert passed == []


@pytest.mark.parametrize("role", ROLES)
def test_every_function_that_is_not_granted_is_refused(conn, role):
    grants = granted()
    functions = conn.execute(
        "select proname, provariadic <> 0, array(select format_type(one, null) from unnest(proargtypes::oid[]) with ordinality"
        " as given (one, place) order by place) from pg_proc"
        " where pronamespace = 'outboxd'::regnamespace and prorettype <> 'trigger'::regtype"
    ).fetchall()
    conn.execute(f"set session authorization outboxd_{role}")
    refused, passed = 0, []
    for name, variadic, types in functions:
        if "execute" in grants.get((f"{name}()", role), set()):
            continue
        names = [f"a{place}" for place in range(len(types))]
        given = (
            ", ".join(f"null::{type_} as {name_}" for type_, name_ in zip(types, names, strict=True)) or "1"
        )
        passed_on = [f"given.{one}" for one in names]
        if variadic:
            passed_on[-1] = f"variadic {passed_on[-1]}"
        call = f"outboxd.{name}({', '.join(passed_on)})"
        if is_refused(conn, f"select {call} from (select {given} offset 0) as given"):
            refused += 1
        else:
            passed.append(name)
    assert refused > 20
    assert passed == []


@pytest.mark.parametrize("role", ROLES)
def test_no_role_becomes_another_or_makes_anything(conn, role):
    conn.execute(f"set session authorization outboxd_{role}")
    others = [f"set role outboxd_{other}" for other in (*ROLES, "owner") if other != role]
    for statement in (
        *others, "create schema mine", "create table outboxd.mine ()", "create function outboxd.mine() returns int return 1",
        "create view outboxd.mine as select 1", "alter schema outboxd rename to mine", "create role mine",
        "alter function outboxd.cancel(uuid) rename to mine", "select pg_read_file('/etc/passwd')",
        "copy outboxd.email to program 'true'",
        "set session_replication_role = 'replica'",
    ):  # fmt: skip
        assert is_refused(conn, statement), statement


def test_each_definer_function_is_the_owners_nobodys_else_and_builds_no_text_into_statements(conn):
    found = conn.execute(
        "select proname, proowner::regrole::text, proconfig, prosrc, has_function_privilege('public', pg_proc.oid, 'execute')"
        " from pg_proc where pronamespace = 'outboxd'::regnamespace and prosecdef"
    ).fetchall()
    assert len(found) >= 7
    for name, owner, config, source, public in found:
        assert owner == "outboxd_owner", name
        assert config is not None
        assert [one for one in config if one.startswith("search_path=")] == [
            "search_path=pg_catalog, pg_temp"
        ], name
        assert not public, name
        text = re.sub(r"--.*", "", source)
        for statement in re.findall(r"\bexecute\s+([^;]*);", text):
            assert statement.lstrip().startswith("format("), (name, statement)
            assert "%I" in statement, (name, statement)
        assert "set_config" not in text or "'search_path'" not in text, name


def test_a_callers_operators_and_functions_are_not_run_with_the_owners_rights(conn):
    """The attack: an operator of the caller's own for the types that our functions compare, first in its path."""
    conn.execute("create schema lair; grant all on schema lair to outboxd_app")
    conn.execute("set session authorization outboxd_app")
    conn.execute(
        "create function lair.spy(text, text) returns boolean language plpgsql as"
        " $$ begin raise exception 'ran as %', current_user; end $$;"
        " create operator lair.= (leftarg = text, rightarg = text, function = lair.spy);"
        " create function lair.lower(text) returns text language plpgsql as"
        " $$ begin raise exception 'ran as %', current_user; end $$;"
        " set search_path = lair, pg_temp, pg_catalog"
    )
    uid = conn.execute(
        """select uid from outboxd.enqueue('{"from":"a@b.example","to":"A@b.example","subject":"s","text":"t"}',
           'welcome', dedupe_key => 'k')"""
    ).fetchone()[0]
    assert conn.execute("select outboxd.cancel(%s)", (uid,)).fetchone() == (True,)
