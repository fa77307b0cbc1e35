"""Any payload is refused by Postgres with the name of a field, or is one that the serialiser takes; nothing crashes."""

import json
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from factories import HOME, payload
from hypothesis import given
from hypothesis import strategies as st
from trying import LONG_TEXTS, cheaply, hostile_text, json_values, many

from outboxd.core import wire

REFUSED = {"22023", "0A000", "22P02", "22P05", "54001", "23514", "22021"}
FIELDS = [
    "from", "to", "cc", "bcc", "reply_to", "subject", "html", "text", "headers", "attachments", "tags", "scheduled_at",
    "template", "topic_id", "nonsense",
]  # fmt: skip
addresses = st.sampled_from(
    ["a@b.example", "Ada <a@b.example>", "a@bücher.example", "a@b", '"x" <a@b.example>']
) | hostile_text(30)
things = st.one_of(
    json_values,
    addresses,
    st.lists(addresses, max_size=3),
    st.dictionaries(hostile_text(8) | st.sampled_from(["X-A", "Bcc", "name", "value"]), hostile_text(12), max_size=3),
    st.lists(st.dictionaries(st.sampled_from(["filename", "content", "path", "name", "value"]), hostile_text(12)), max_size=2),
)  # fmt: skip
payloads = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), things, max_size=3).map(lambda fields: payload() | fields),
    json_values,
)


@pytest.fixture(scope="module")
def postgres(server: str, template: str) -> Iterator[psycopg.Connection]:
    """One database for all examples."""
    from servers import fresh_database

    for url in fresh_database(server, template):
        with psycopg.connect(url) as conn:
            yield conn


@many(150)
@given(payloads)
def test_what_postgres_takes_the_serialiser_takes_and_nothing_else_is_raised(postgres, body):
    text = json.dumps(body)
    with postgres.transaction(force_rollback=True):
        try:
            row = postgres.execute(
                "insert into outboxd.email (type, payload) values ('x', %s) returning payload::text, recipients",
                (text,),
            ).fetchone()
        except psycopg.Error as error:
            assert error.sqlstate in REFUSED, (error.sqlstate, str(error))
            return
        stored, recipients = row
    sent = json.loads(wire.render(stored, UUID(int=7), HOME))
    assert sent["tags"][-1]["name"] == HOME.tag
    assert sorted(set(wire.recipients(stored))) == sorted(set(recipients)), "counted is not what goes out"


@many(250)
@given(payloads | hostile_text(200))
def test_any_stored_text_is_rendered_or_unsendable(body):
    """Whatever a row holds that went past the checks."""
    text = body if isinstance(body, str) else json.dumps(body)
    try:
        rendered = wire.render(text, UUID(int=7), HOME)
    except wire.Unsendable as error:
        assert error.field
        return
    again = json.loads(rendered)
    assert isinstance(again, dict)
    assert again["tags"][-1] == {"name": HOME.tag, "value": str(UUID(int=7))}


@pytest.mark.parametrize("text", LONG_TEXTS, ids=lambda text: ascii(text[:8]))
def test_a_long_payload_costs_little(text):
    def render(whole: str) -> None:
        try:
            wire.render(whole, UUID(int=7), HOME)
        except wire.Unsendable:
            return

    for whole in (
        text,
        *(json.dumps(payload(**{field: text})) for field in ("from", "to", "subject", "headers")),
    ):
        cheaply(lambda whole=whole: render(whole))
    cheaply(lambda: render(json.dumps(payload(to=[text] * 4))))
