"""Rights: exactly the listed ones, per role and object; and what each role is refused."""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from factories import batched, claim, claim_batches, held, insert, payload, settle, settlement
from psycopg import errors
from psycopg.types.json import Jsonb

from outboxd.core.breaker import after_probe
from outboxd.core.outcome import Ambiguous, Failure, Sent
from outboxd.db import account, batch, breaker, hold, lease, pause, unanswered, word, worker
from outboxd.db.contract import check, roles
from outboxd.db.email import listing, rebuild, show
from outboxd.db.hold import Waiter
from outboxd.db.migrate import migrate
from outboxd.db.probe import lacking
from outboxd.delivery.breakers import Breakers
from outboxd.delivery.sender import Result

GOLDEN = Path(__file__).with_name("grants.golden")
ROLES = ("app", "daemon", "webhook", "admin", "grafana")
AMBIGUOUS = Ambiguous(Failure("ambiguous", "no answer"))
ACL = """
with object as (
  select relname as name, relowner as owner,
    coalesce(relacl, acldefault((case relkind when 'S' then 's' else 'r' end)::"char", relowner)) as acl
  from pg_class
  where relnamespace = 'outboxd'::regnamespace and relkind in ('r', 'p', 'v', 'S') and relname !~ '_p\\d+$'
  union all
  select format('%s.%s', relname, attname), relowner, attacl
  from pg_attribute join pg_class on pg_class.oid = attrelid
  where relnamespace = 'outboxd'::regnamespace and attacl is not null
  union all
  select proname || '()', proowner, coalesce(proacl, acldefault('f', proowner))
  from pg_proc where pronamespace = 'outboxd'::regnamespace
  union all
  select 'schema outboxd', nspowner, nspacl from pg_namespace where nspname = 'outboxd'
  union all
  select concat_ws(' ', 'default privileges', defaclrole::regrole, defaclobjtype), defaclrole, defaclacl
  from pg_namespace left join pg_default_acl on defaclnamespace in (0, pg_namespace.oid)
  where nspname = 'outboxd'
)
select object.name, coalesce(string_agg(granted.line, '; ' order by granted.line), '-')
from object
left join lateral (
  select format('%s: %s', case grantee when 0 then 'PUBLIC' else grantee::regrole::text end,
    string_agg(lower(privilege_type), ', ' order by privilege_type)) as line
  from aclexplode(object.acl)
  where grantee <> object.owner
  group by grantee
) as granted on true
group by object.name
order by object.name collate "C"
"""
MEMBERSHIPS = """
select 'memberships of ' || rolname, coalesce(string_agg(roleid::regrole::text, ', ' order by roleid::regrole::text), '-')
from pg_roles left join pg_auth_members on member = pg_roles.oid
where rolname ~ '^outboxd_(owner|app|daemon|webhook|admin|grafana)$'
group by rolname
order by rolname collate "C"
"""
# What the rights of the golden file permit, one statement for each. The arguments of a function are no constants: a
# strict one would be folded to null, unasked. What nobody can write is left out: views that join, and identities
# behind a view.
STATEMENTS = """
select format('%s.%s', relname, attname) as name, verb, format(statement, relname, attname)
from pg_class join pg_attribute on attrelid = pg_class.oid
cross join (values
  ('select', 'select %2$I from outboxd.%1$I'),
  ('insert', 'insert into outboxd.%1$I (%2$I) values (default)'),
  ('update', 'update outboxd.%1$I set %2$I = default where false')) as wanted (verb, statement)
where relnamespace = 'outboxd'::regnamespace and relkind in ('r', 'p', 'v') and relname !~ '_p\\d+$'
  and attnum > 0 and not attisdropped and (verb = 'select' or pg_column_is_updatable(pg_class.oid, attnum, false))
  and (relkind, verb, attname) <> ('v', 'update', 'id')
union all
select relname, 'delete', format('delete from outboxd.%I where false', relname)
from pg_class
where relnamespace = 'outboxd'::regnamespace and relkind in ('r', 'p', 'v') and relname !~ '_p\\d+$'
  and pg_relation_is_updatable(pg_class.oid, false) <> 0
union all
select relname, verb, format(statement, relname)
from pg_class
cross join (values
  ('select', 'select last_value from outboxd.%I'),
  ('usage', 'select nextval(''outboxd.%I'')'),
  ('update', 'select setval(''outboxd.%I'', 1)')) as wanted (verb, statement)
where relnamespace = 'outboxd'::regnamespace and relkind = 'S'
union all
select proname || '()', 'execute',
  format('with given as materialized (select %s) select outboxd.%I(%s) from given', nulls, proname, arguments)
from pg_proc
cross join lateral (
  select string_agg(format('null::%s as a%s', type::regtype, place), ', '),
    string_agg(case when provariadic <> 0 and place = pronargs then 'variadic ' else '' end || 'a' || place, ', ' order by place)
  from unnest(proargtypes::oid[]) with ordinality as given (type, place)
) as call (nulls, arguments)
where pronamespace = 'outboxd'::regnamespace
"""


def grants(conn: psycopg.Connection) -> str:
    found = conn.execute(ACL).fetchall() + conn.execute(MEMBERSHIPS).fetchall()
    return "".join(f"{name}  {line}\n" for name, line in found)


def given(role: str) -> set[tuple[str, str]]:
    """Pairs of an object and a privilege, from the golden file."""
    lines = re.findall(rf"^(\S+)  .*\boutboxd_{role}: ([a-z, ]+)", GOLDEN.read_text(), re.MULTILINE)
    return {(name, privilege) for name, privileges in lines for privilege in privileges.split(", ")}


@pytest.fixture
def acting(connect) -> Callable[[str], psycopg.Connection]:
    """A connection that has the rights of one role and no others."""

    def become(role: str) -> psycopg.Connection:
        conn = connect()
        conn.execute(f"set session authorization outboxd_{role}")
        return conn

    return become


def refused(conn: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(errors.InsufficientPrivilege):
            conn.execute(statement)


def may(conn: psycopg.Connection, name: str, statement: str) -> bool:
    """Whether the right to this object is there, whatever else the statement lacks or stumbles over."""
    lacked = f"function {name[:-2]}" if name.endswith("()") else f" {name.partition('.')[0]}"
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(statement)
    except errors.InsufficientPrivilege as error:
        return not error.diag.message_primary.endswith(lacked)
    except psycopg.Error:
        return True
    return True


def test_every_role_has_exactly_the_rights_of_the_golden_file(conn):
    """Every table, view, sequence and function is in it, also what nobody may touch. WRITE_GOLDEN=1 writes it anew."""
    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.write_text(grants(conn))
    assert grants(conn) == GOLDEN.read_text()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_the_golden_file_gives_it_and_is_refused_every_other_statement(acting, conn, role):
    rights, acts = given(role), acting(role)
    statements = conn.execute(STATEMENTS).fetchall()
    assert len(statements) > 1_000
    for name, verb, statement in statements:
        listed = bool(rights & {(name, verb), (name.partition(".")[0], verb)})
        assert may(acts, name, statement) == listed, statement


def test_migrating_again_takes_back_what_was_given_by_hand_and_gives_back_what_was_taken(database, conn):
    conn.execute("grant delete on outboxd.email to outboxd_daemon")
    conn.execute("grant update (payload) on outboxd.email to outboxd_app")
    conn.execute("grant usage on sequence outboxd.email_id_seq to outboxd_app")
    conn.execute("revoke all on outboxd.ready from outboxd_daemon")
    assert grants(conn) != GOLDEN.read_text()
    migrate(database)
    assert grants(conn) == GOLDEN.read_text()


def test_the_owner_is_a_role_that_cannot_log_in(conn):
    owners = """
      select distinct owner::regrole::text
      from (select relowner from pg_class where relnamespace = 'outboxd'::regnamespace
        union all select proowner from pg_proc where pronamespace = 'outboxd'::regnamespace
        union all select nspowner from pg_namespace where nspname = 'outboxd') as owned (owner)
    """
    assert conn.execute(owners).fetchall() == [("outboxd_owner",)]
    login = "select rolcanlogin or rolsuper or rolcreaterole from pg_roles where rolname = 'outboxd_owner'"
    assert conn.execute(login).fetchone() == (False,)


class TestApp:
    def test_it_inserts_and_gets_back_what_orms_return(self, acting):
        app = acting("app")
        statement = (
            "insert into outboxd.email (type, payload) values ('welcome', %s) returning id, uid, created_at"
        )
        id_, uid, created_at = app.execute(statement, (Jsonb(payload()),)).fetchone()
        assert app.execute("select state from outboxd.status(%s)", (uid,)).fetchone() == ("ready",)
        assert app.execute("select outboxd.cancel(%s)", (uid,)).fetchone() == (True,)
        assert app.execute("select uid, created_at from outboxd.email where id = %s", (id_,)).fetchone() == (
            uid,
            created_at,
        )

    def test_it_may_write_every_column_of_the_contract_and_copy(self, acting):
        app = acting("app")
        app.execute(
            "insert into outboxd.email (type, payload, queue, dedupe_key, scheduled_at, expires_at, priority,"
            " max_attempts, guard, campaign, tenant, trace) values ('welcome', %s, 'system', 'k', now(), null, 7, 2,"
            " null, null, 't', '{}')",
            (Jsonb(payload()),),
        )
        with (
            app.cursor() as cursor,
            cursor.copy("copy outboxd.email (type, payload) from stdin") as copy,
        ):
            copy.write_row(("welcome", Jsonb(payload())))
        assert len(app.execute("select outboxd.enqueue_many(%s)", (
            Jsonb([{"type": "welcome", "payload": payload()}] * 2),)).fetchone()[0]) == 2  # fmt: skip

    def test_sqlalchemy_inserts_as_it(self, database):
        table = sqlalchemy.Table(
            "email",
            sqlalchemy.MetaData(schema="outboxd"),
            sqlalchemy.Column(
                "id", sqlalchemy.BigInteger, sqlalchemy.Identity(always=True), primary_key=True
            ),
            sqlalchemy.Column("uid", sqlalchemy.Uuid, server_default=sqlalchemy.FetchedValue()),
            sqlalchemy.Column("type", sqlalchemy.Text),
            sqlalchemy.Column("payload", sqlalchemy.dialects.postgresql.JSONB),
        )
        engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database))
        with engine.begin() as connection:
            connection.exec_driver_sql("set session authorization outboxd_app")
            insertion = (
                table.insert().values(type="welcome", payload=payload()).returning(table.c.id, table.c.uid)
            )
            id_, uid = connection.execute(insertion).one()
            assert id_
            assert uid
        engine.dispose()

    def test_it_sees_no_mail_and_touches_nothing_else(self, acting, conn):
        insert(conn)
        partition = conn.execute("select tableoid::regclass::text from outboxd.email").fetchone()[0]
        app = acting("app")
        refused(
            app,
            "select payload from outboxd.email",
            "select recipients from outboxd.email",
            "update outboxd.email set payload = '{}'",
            "delete from outboxd.email",
            "insert into outboxd.email (uid, type, payload) values (gen_random_uuid(), 'welcome', '{}')",
            f"insert into {partition} (type, payload) values ('welcome', '{{}}')",
            "select from outboxd.ready",
            "delete from outboxd.ready",
            "select * from outboxd.email_status",
            "select * from outboxd.dead_letter",
            "select outboxd.extend_partitions()",
            "select outboxd.rebuild_ready(0, 1)",
            "create table outboxd.mine (a int)",
            "drop table outboxd.email",
        )


class TestDaemon:
    def test_every_statement_it_runs_is_permitted(self, acting, conn):
        from uuid import uuid4

        from outboxd.db.policy import Policies

        for _ in range(3):
            insert(conn)
        daemon, me = acting("daemon"), uuid4()
        worker.beat(daemon, me, version="1", threads=1)
        Policies().refresh(daemon)
        assert worker.extend_partitions(daemon) == 0
        assert lease.slots(daemon, "default")
        first, *rest = claim(daemon)
        settle(daemon, (first, Sent("re_1")))
        word.accepted(daemon, [settlement(rest[0], Sent("re_2"))])
        word.since_claim(daemon, [rest[0].id])
        parcel = batched(conn, daemon, 3)
        assert batch.waiting(daemon, "default") == []
        batch.repack(daemon, parcel.first.lease_id, [], replaced=[parcel.batch.uid])
        pause.begin(
            daemon, "domain", "a.example", reason="domain", detail="", lasts=None, probe_every=timedelta(0)
        )
        assert pause.take_probe(daemon, "default")
        assert pause.lane(daemon, "domain", "a.example")
        assert pause.lift(daemon, [("domain", "a.example")])
        account.ensure(daemon, "default")
        account.reserve(daemon, "default", 1, share=0.97)
        account.learn(daemon, "default", 2.0, instead=10.0)
        account.overran(daemon, "default", timedelta(seconds=1))
        conn.execute("update outboxd.lease set lease_until = clock_timestamp()")
        assert len(lease.reclaim(daemon, crash_limit=1)) == 2 + 3
        assert claim_batches(daemon) == []
        assert lease.hand_back(daemon, uuid4()) == 0
        worker.forget(daemon, me)

    def test_every_statement_of_the_breaker_is_permitted(self, acting, conn):
        insert(conn)
        daemon = acting("daemon")
        (email,) = claim(daemon)
        Breakers("default", lambda _: None).heard(daemon, [Result(held(email), AMBIGUOUS, 0.0)] * 10)
        conn.execute("update outboxd.breaker set probe_at = clock_timestamp()")
        assert breaker.probe_due_in(daemon, "default") <= 0
        taken = breaker.take_probe(daemon, "default")
        assert taken
        breaker.release_probe(daemon, taken)
        breaker.change(daemon, "default", lambda known, at: after_probe(known, Sent("re_1"), now=at))
        assert hold.held_since(daemon, "default", [Waiter(email.id, email.claimed_at, "")])
        assert hold.prune(daemon) == 0
        assert unanswered.end(daemon) == []

    def test_it_lacks_nothing_that_the_statements_need(self, database):
        assert lacking(f"{database}&options=-c%20role%3Doutboxd_daemon")[1] == []

    def test_it_makes_partitions_by_the_owners_function_alone(self, acting, conn):
        conn.execute("select setval('outboxd.email_id_seq', 25000000)")
        daemon = acting("daemon")
        assert worker.extend_partitions(daemon) > 0
        refused(
            daemon,
            "create table outboxd.email_x partition of outboxd.email for values from (900000000) to (900000001)",
            "alter table outboxd.ready add column mine int",
            "create index on outboxd.ready (scheduled_at)",
            "truncate outboxd.ready",
            "create schema mine",
        )

    def test_it_deletes_no_email_and_writes_no_history_again(self, acting):
        refused(
            acting("daemon"),
            "delete from outboxd.email",
            "update outboxd.email set payload = '{}'",
            "insert into outboxd.email (type, payload) values ('welcome', '{}')",
            "delete from outboxd.delivery",
            "update outboxd.delivery set state = 'sent'",
            "delete from outboxd.attempt",
            "update outboxd.dead_letter set certainty = 'not_accepted'",
            "update outboxd.queue set priority = 1",
            "select * from outboxd.dedupe",
            "delete from outboxd.instance",
            "select outboxd.enqueue('{}', 'welcome')",
            "select outboxd.rebuild_ready(0, 1)",
        )


class TestWebhook:
    def test_it_suppresses_and_does_nothing_else(self, acting):
        webhook = acting("webhook")
        assert webhook.execute("select outboxd.suppress('a@b.example', 'hard_bounce')").fetchone() == (True,)
        refused(
            webhook,
            "select from outboxd.email",
            "select from outboxd.email_status",
            "insert into outboxd.email (type, payload) values ('welcome', '{}')",
            "insert into outboxd.word (id, kind) values (1, 'accepted')",
            "select outboxd.enqueue('{}', 'welcome')",
            "select outboxd.cancel(gen_random_uuid())",
            "select outboxd.unsuppress('a@b.example')",
            "select from outboxd.suppression",
        )


class TestAdmin:
    def test_the_operators_commands_work(self, acting, database, conn):
        insert(conn)
        url = f"{database}&options=-c%20role%3Doutboxd_admin"
        (row,) = listing(url, limit=10, queue=None, type=None, state=None, recipient="ada@example.org")
        assert show(url, row["uid"])["state"] == "ready"
        assert rebuild(url, never_asked=False, progress=lambda *_: None) == 0
        admin = acting("admin")
        admin.execute("insert into outboxd.queue (name) values ('bulk')")
        admin.execute("select * from outboxd.dead_letters").fetchall()

    def test_it_reads_no_bodies_and_moves_no_mail_by_hand(self, acting):
        refused(
            acting("admin"),
            "select payload from outboxd.email",
            "delete from outboxd.email",
            "update outboxd.ready set scheduled_at = now()",
            "delete from outboxd.dead_letter",
            "insert into outboxd.delivery (id, state, queue, attempts) values (1, 'sent', 1, 1)",
            "drop table outboxd.attempt",
        )


class TestGrafana:
    def test_it_reads_views(self, acting, conn):
        insert(conn)
        grafana = acting("grafana")
        for view in ("email_status", "queue_status", "dead_letters", "workers"):
            grafana.execute(f"select * from outboxd.{view}").fetchall()

    def test_it_reads_no_table_and_writes_nothing(self, acting, conn):
        grafana = acting("grafana")
        tables = conn.execute(
            "select oid::regclass from pg_class where relnamespace = 'outboxd'::regnamespace and relkind in ('r', 'p')"
        ).fetchall()
        refused(grafana, *(f"select from {table}" for (table,) in tables))
        functions = "enqueue('{}', 'welcome')", "cancel(gen_random_uuid())", "extend_partitions()"
        refused(grafana, *(f"select outboxd.{function}" for function in functions))
        refused(grafana, "insert into outboxd.queue (name) values ('mine')")


class TestSecurityDefiner:
    DEFINER = """
      select proname, prosrc, proconfig, prolang = (select oid from pg_language where lanname = 'plpgsql')
      from pg_proc where pronamespace = 'outboxd'::regnamespace and prosecdef
    """

    def test_each_has_a_safe_search_path(self, conn):
        found = conn.execute(self.DEFINER).fetchall()
        assert len(found) >= 7
        for name, _, config, _ in found:
            assert "search_path=pg_catalog, pg_temp" in config, name

    def test_none_names_a_table_or_function_of_ours_without_its_schema(self, conn):
        ours = {
            name
            for (name,) in conn.execute(
                "select relname from pg_class where relnamespace = 'outboxd'::regnamespace"
                " union select proname from pg_proc where pronamespace = 'outboxd'::regnamespace"
            )
        }
        for name, source, _, _ in conn.execute(self.DEFINER).fetchall():
            text = re.sub(r"--.*|'[^']*'", "", source)
            named = {
                match[1]
                for match in re.finditer(r"\b(?:from|join|into|update|using)\s+([a-z_]+)\b(?![.\w(])", text)
            }
            called = {match[1] for match in re.finditer(r"(?<![.\w])([a-z_]+)\s*\(", text)} - {"email_status"}
            made = {
                match[1]
                for match in re.finditer(r"\b([a-z_]+)\s+(?:\([^()]*\)\s+)?as\s+(?:materialized\s+)?\(", text)
            }
            assert not (named | called) & ours - made - {name}, (name, (named | called) & ours - made)

    def test_a_callers_temporary_tables_are_not_read(self, acting, conn):
        """The attack: tables of the caller's own, named like ours and like the catalog's, before any other."""
        app = acting("app")
        for table in (
            "email",
            "queue",
            "email_type",
            "ready",
            "delivery",
            "dead_letter",
            "word",
            "progress",
            "dedupe",
            "email_status",
        ):
            app.execute(f"create temp table {table} (id bigint, uid uuid, state text, kind text)")
        app.execute("create temp table pg_class (oid oid, relname text)")
        app.execute("set search_path = pg_temp, outboxd, pg_catalog")
        uid = app.execute(
            "select uid from outboxd.enqueue(%s, 'welcome', dedupe_key => 'k')", (Jsonb(payload()),)
        ).fetchone()[0]
        assert app.execute("select state from outboxd.status(%s)", (uid,)).fetchone() == ("ready",)
        assert app.execute("select outboxd.cancel(%s)", (uid,)).fetchone() == (True,)
        assert conn.execute("select count(*) from outboxd.dedupe").fetchone() == (1,)
        assert app.execute("select count(*) from pg_temp.dedupe").fetchone() == (0,)


class TestWithoutRightsToMakeRoles:
    @pytest.fixture
    def owned(self, local_server) -> Callable[[str], str]:
        """Makes a database of an ordinary role, on a server without our roles; its URL."""

        def make(role: str, options: str = "") -> str:
            with psycopg.connect(local_server.url, autocommit=True) as admin:
                admin.execute(f"create role {role} login {options}")
                admin.execute(f"create database {role} owner {role}")
            return local_server.url_for(role).replace("postgres@", f"{role}@")

        return make

    def test_the_plain_owner_of_a_database_does_everything_with_one_role(self, owned):
        url = owned("plain")
        assert "outboxd_daemon" in migrate(url)
        assert "outboxd_daemon" in migrate(url)
        check(url)
        with psycopg.connect(url, autocommit=True) as conn:
            insert(conn)
            (email,) = claim(conn)
            settle(conn, (email, Sent("re_1")))
            conn.execute("select setval('outboxd.email_id_seq', 25000000)")
            assert worker.extend_partitions(conn) > 0

    def test_an_administrator_runs_the_printed_sql_and_the_owner_migrates_on(self, owned):
        url = owned("plain")
        migrate(url)
        with psycopg.connect(url.replace("plain@", "postgres@"), autocommit=True) as admin:
            admin.execute(roles())
            assert grants(admin) == GOLDEN.read_text()
            assert owner_of_email(admin) == "outboxd_owner"
        assert migrate(url) == []  # as a member of the owner
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("alter table outboxd.word add column mine int")

    def test_a_role_that_may_make_roles_makes_them(self, owned):
        url = owned("maker", "createrole")
        assert migrate(url) == []
        assert migrate(url) == []
        with psycopg.connect(url, autocommit=True) as conn:
            assert grants(conn) == GOLDEN.read_text()
            assert owner_of_email(conn) == "outboxd_owner"


def owner_of_email(conn: psycopg.Connection) -> str:
    return conn.execute(
        "select relowner::regrole::text from pg_class where oid = 'outboxd.email'::regclass"
    ).fetchone()[0]
