"""What could never be sent is refused at the INSERT, by name of the field; nothing is half-written, nothing leaks."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from factories import HOME, insert, payload
from hostile import HOSTILE, LEGAL, UNREADABLE
from servers import fresh_database

from outboxd.core.wire import render

INSERT = "insert into outboxd.email (type, payload) values ('welcome', %s)"


def test_there_are_at_least_sixty():
    assert len(HOSTILE) + len(UNREADABLE) >= 60


@pytest.fixture(scope="module")
def shared(server, template):
    """A connection to one database for all that leaves nothing in it."""
    for url in fresh_database(server, template):
        with psycopg.connect(url, autocommit=True) as conn:
            yield conn


@pytest.fixture
def refused(shared):
    """Nothing of a refused email is left."""
    yield shared
    left = shared.execute(
        "select (select count(*) from outboxd.email), (select count(*) from outboxd.ready)"
    ).fetchone()
    if left != (0, 0):
        shared.execute("truncate outboxd.email, outboxd.ready")
    assert left == (0, 0)


@pytest.mark.parametrize(
    ("text", "sqlstate", "field"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE]
)
def test_a_hostile_payload_is_refused_with_its_field(refused, text, sqlstate, field):
    with pytest.raises(psycopg.Error) as refusal:
        refused.execute(INSERT, (text,))
    assert refusal.value.sqlstate == sqlstate
    primary, hint = refusal.value.diag.message_primary, refusal.value.diag.message_hint or ""
    assert field in primary or field in hint
    assert "evil" not in primary + hint
    assert "example.org" not in primary + hint


@pytest.mark.parametrize(
    ("text", "sqlstate"), [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE]
)
def test_what_is_not_json_is_refused_by_postgres(refused, text, sqlstate):
    with pytest.raises(psycopg.Error) as refusal:
        refused.execute(INSERT, (text,))
    assert refusal.value.sqlstate == sqlstate


@pytest.mark.parametrize("text", [case[1] for case in LEGAL], ids=[case[0] for case in LEGAL])
def test_a_strange_but_legal_payload_is_accepted_and_renders(shared, text):
    with shared.transaction(force_rollback=True):
        shared.execute(INSERT, (text,))
        shared.execute("set constraints all immediate")
        (stored,) = shared.execute("select payload::text from outboxd.email").fetchone()
    body = json.loads(render(stored, UUID(int=7), HOME))
    assert body["tags"][-1] == {"name": "outboxd_uid", "value": str(UUID(int=7))}


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("columns", "sqlstate", "field"),
    [
        ({"scheduled_at": "infinity"}, "22023", "scheduled_at"),
        ({"scheduled_at": "-infinity"}, "22023", "scheduled_at"),
        ({"scheduled_at": NOW + timedelta(days=400)}, "22023", "scheduled_at"),
        ({"expires_at": "infinity"}, "22023", "expires_at"),
        (
            {"scheduled_at": NOW + timedelta(days=2), "expires_at": NOW + timedelta(days=1)},
            "22023",
            "expires_at",
        ),
        ({"priority": 0}, "22023", "priority"),
        ({"priority": 101}, "22023", "priority"),
        ({"max_attempts": 0}, "22023", "max_attempts"),
        ({"queue": "nowhere"}, "22023", "queue"),
        ({"dedupe_key": ""}, "22023", "dedupe_key"),
        ({"guard": "true"}, "0A000", "guard"),
        ({"campaign": ""}, "22023", "campaign"),
        ({"campaign": "a\nb"}, "22023", "campaign"),
        ({"campaign": "c" * 101}, "22023", "campaign"),
        ({"trace": "[]"}, "22023", "trace"),
        ({"type": ""}, "22023", "type"),
        ({"type": "a\nb"}, "22023", "type"),
    ],
)
def test_a_bad_column_is_refused_with_its_name(refused, columns, sqlstate, field):
    with pytest.raises(psycopg.Error) as refusal:
        insert(refused, **columns)
    assert refusal.value.sqlstate == sqlstate
    assert refusal.value.diag.message_primary.startswith(field)


@pytest.mark.parametrize(
    ("call", "sqlstate", "words"),
    [
        ("outboxd.enqueue(%s, 'x', after => '[]')", "0A000", "after"),
        ("outboxd.enqueue(%s, 'x', on_duplicate => 'overwrite')", "22023", "on_duplicate"),
        ("outboxd.enqueue(%s, 'x', on_duplicate => 'merge')", "22023", "on_duplicate"),
        ("outboxd.enqueue_many(jsonb_build_array(%s::jsonb))", "22023", "items[0]"),
    ],
)
def test_a_parameter_without_its_feature_is_refused(refused, call, sqlstate, words):
    with pytest.raises(psycopg.Error) as refusal:
        refused.execute(f"select {call}", (json.dumps(payload()),))
    assert refusal.value.sqlstate == sqlstate
    assert words in refusal.value.diag.message_primary


def test_a_duplicate_key_is_ignored_rejected_and_refused_by_raw_insert(conn):
    body = json.dumps(payload())
    call = "select id, duplicate from outboxd.enqueue(%s, 'x', dedupe_key => 'k', on_duplicate => %s)"
    first = conn.execute(call, (body, "ignore")).fetchone()
    assert conn.execute(call, (body, "ignore")).fetchone() == (first[0], True)
    for refuse in (lambda: conn.execute(call, (body, "reject")), lambda: insert(conn, dedupe_key="k")):
        with pytest.raises(psycopg.errors.UniqueViolation):
            refuse()
    insert(conn, dedupe_key="k", tenant="other")
    conn.execute(
        "insert into outboxd.delivery (id, state, queue, attempts, at) values (%s, 'sent', 1, 1, now() - interval '25 h')",
        (first[0],),
    )
    assert conn.execute(call, (body, "ignore")).fetchone()[1] is False
