"""`outboxd migrate`: several at once, and its text for those who apply SQL by hand."""

import subprocess
import sys
import uuid
from collections.abc import Sequence

import psycopg
import pytest
from servers import url_for

from outboxd.db.contract import check
from outboxd.db.migrate import migrate, sql
from outboxd.errors import SchemaError

SCHEMA = """
select 'function', p.oid::regprocedure::text, md5(pg_get_functiondef(p.oid)), p.proacl::text
from pg_proc p where p.pronamespace = 'outboxd'::regnamespace
union all
select 'column', c.oid::regclass::text || '.' || a.attname,
  format_type(a.atttypid, a.atttypmod) || a.attnotnull || coalesce(pg_get_expr(d.adbin, d.adrelid), ''), c.relacl::text
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on (d.adrelid, d.adnum) = (c.oid, a.attnum)
where c.relnamespace = 'outboxd'::regnamespace
union all
select 'said', 'schema', obj_description('outboxd'::regnamespace, 'pg_namespace'), null
order by 1, 2, 3
"""


def schema(url: str) -> list:
    with psycopg.connect(url) as conn:
        return conn.execute(SCHEMA).fetchall()


def migrated_at_once(urls: Sequence[str]) -> list[int]:
    """The exit codes of as many `outboxd migrate`, begun together."""
    command = [sys.executable, "-m", "outboxd", "migrate"]
    running = [
        subprocess.Popen(
            command, env={"DATABASE_URL": url, "PATH": "/usr/bin:/bin"}, stdout=subprocess.DEVNULL
        )
        for url in urls
    ]
    return [process.wait(60) for process in running]


def test_four_at_once_on_one_database_all_succeed(empty_database):
    assert migrated_at_once([empty_database] * 4) == [0] * 4
    check(empty_database)


def test_making_partitions_leaves_the_patience_of_its_caller_as_it_was(conn):
    """A migration makes roles in the same transaction, and waits for another database's that makes them too."""
    with conn.transaction():
        conn.execute("set local lock_timeout = '7s'")
        conn.execute("select setval('outboxd.email_id_seq', 30000000)")
        assert conn.execute("select outboxd.extend_partitions()").fetchone()[0] > 0
        assert conn.execute("show lock_timeout").fetchone() == ("7s",)


@pytest.mark.slow
def test_four_at_once_on_four_databases_of_one_server_make_its_roles_together(local_server):
    names = [f"shop_{uuid.uuid4().hex[:8]}" for _ in range(4)]
    with psycopg.connect(local_server.url, autocommit=True) as admin:
        for name in names:
            admin.execute(f"create database {name}")
    urls = [url_for(local_server.url, name) for name in names]
    assert migrated_at_once(urls) == [0] * 4
    for url in urls:
        check(url)


def test_its_text_makes_the_schema_that_it_makes_itself(empty_database, database):
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(sql())
    check(empty_database)
    migrate(empty_database)
    assert schema(empty_database) == schema(database)


def test_a_database_without_the_text_s_last_word_is_refused(empty_database):
    """The comment says whose functions these are: without it nobody knows."""
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(sql())
        conn.execute("comment on schema outboxd is null")
    with pytest.raises(SchemaError, match="run `outboxd migrate`"):
        check(empty_database)
