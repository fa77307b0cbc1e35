"""Any payload is refused by Postgres with the name of a field, or is one that the serialiser takes; nothing crashes."""

import json
from uuid import UUID

import psycopg
import pytest
from factories import HOME, payload
from hypothesis import given
from hypothesis import strategies as st
from trying import LONG_TEXTS, SOON, STORABLE, cheaply, hostile_text, json_values, many, shapes

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

PLACES = {  # of a text, by the path that a refusal names
    "payload.from": lambda text: payload(**{"from": text}),
    "payload.to": lambda text: payload(to=text),
    "payload.to[0]": lambda text: payload(to=[text] * 4),
    "payload.subject": lambda text: payload(subject=text),
    "payload.html": lambda text: payload(html=text),
    "payload.headers": lambda text: payload(headers={text: "a"}),
    "payload.headers.X-A": lambda text: payload(headers={"X-A": text}),
    "payload.tags[0].name": lambda text: payload(tags=[{"name": text, "value": "a"}]),
    "payload.tags[0].value": lambda text: payload(tags=[{"name": "a", "value": text}]),
    "payload.attachments[0].filename": lambda text: payload(attachments=[{"filename": text, "content": "aGk="}]),
    "payload.attachments[0].content": lambda text: payload(attachments=[{"filename": "a", "content": text}]),
    "payload.attachments[0].content_type": lambda text: payload(
        attachments=[{"filename": "a", "content": "aGk=", "content_type": text}]
    ),
    "payload": lambda text: payload(**{text: "a"}),
}  # fmt: skip


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
        json.dumps(payload(headers=text)),
        *(json.dumps(make(text)) for make in PLACES.values()),
    ):
        cheaply(lambda whole=whole: render(whole))


@pytest.mark.parametrize("text", LONG_TEXTS, ids=lambda text: ascii(text[:8]))
def test_a_long_text_in_a_payload_is_soon_taken_by_postgres_or_refused_by_name(postgres, text):
    with postgres.transaction(force_rollback=True):
        postgres.execute(SOON)
        for place, make in PLACES.items():
            for one in shapes(text):
                try:
                    with postgres.transaction(force_rollback=True):
                        postgres.execute(
                            "insert into outboxd.email (type, payload) values ('x', %s)",
                            (json.dumps(make(one)),),
                        )
                except psycopg.Error as error:
                    said = error.diag.message_primary
                    no_jsonb = text not in STORABLE and error.sqlstate in {"22P02", "22P05"}
                    assert said.startswith(f"{place}: ") or no_jsonb, (place, len(one), said)
