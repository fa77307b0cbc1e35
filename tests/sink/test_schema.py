"""The sink's own OpenAPI document: the sink keeps it, and where Resend's document speaks, it says the same.

Resend's document is not part of this repository: RESEND_OPENAPI names it.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from asking import HEADERS, ask, ask_batch
from factories import payload
from jsonschema import Draft202012Validator
from openapi import OURS, Document, documents, record, theirs

from outboxd.sink.options import SinkOptions
from outboxd.sink.provider import Provider
from outboxd.sink.validate import problem_with

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
VALUES: list[Any] = [
    None, "", "text", "a@b.co", "Name <a@b.co>", 5, 1.5, True, [], [5], ["a@b.co"], ["text"], [None], {}, {"a": 5},
    {"a": "b"}, {"id": "x"}, {"id": 5}, {"id": "x", "variables": {"a": 1, "b": "c"}}, {"id": "x", "variables": {"a": []}},
    [{"name": "a", "value": "b"}], [{"name": "a b", "value": "c"}], [{"name": "a"}], [{"name": 5, "value": "b"}],
    [{"content": "aGk="}], [{"content": 5}], [{"path": "https://a.example/b"}], [{"content": "aGk=", "filename": 5}],
    [{"filename": "a"}], [{"content": [104, 105]}], ["a@b.co"] * 51,
]  # fmt: skip
FIELDS = (
    "from", "to", "subject", "cc", "bcc", "reply_to", "html", "text", "template", "headers", "scheduled_at",
    "attachments", "tags", "topic_id",
)  # fmt: skip
LAXER = {
    "template": "Resend's document requires from and subject beside a template, its API does not",
    "attachments": "the Python client sends bytes as numbers, which the document does not know",
}


def corpus() -> list[tuple[str, dict]]:
    """Every field with every value, also beside a template, and every field left out."""
    templated = {"to": "a@b.co", "template": {"id": "x"}}
    cases = [(field, payload() | {field: value}) for field in FIELDS for value in VALUES]
    cases += [(field, templated | {field: value}) for field in FIELDS for value in VALUES]
    cases += [(field, {k: v for k, v in payload().items() if k != field}) for field in FIELDS]
    return cases


def accepts(document: Document, body: object) -> bool:
    return not document.errors_of(document.schema("SendEmailRequest"), body)


def test_the_document_is_a_schema_itself():
    for schema in Document(str(OURS)).loaded["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_sink_refuses_what_its_document_refuses_and_nothing_else():
    """What a schema cannot say (instants, base64) has its own tests."""
    ours = Document(str(OURS))
    wrong = [
        body
        for field, body in corpus()
        if not (field == "scheduled_at" and isinstance(body.get(field), str))
        and accepts(ours, body) != (problem_with(body, now=NOW) is None)
    ]
    assert wrong == []


@pytest.mark.parametrize("document", theirs())
def test_both_documents_name_the_same_fields(document):
    ours, other = Document(str(OURS)), Document(document)
    for name in ("SendEmailRequest", "EmailTemplateInput", "Attachment", "Tag", "UpdateEmailOptions"):
        assert set(ours.schema(name)["properties"]) == set(other.schema(name)["properties"]), name


@pytest.mark.parametrize("document", theirs())
def test_ours_refuses_what_resends_document_refuses(document):
    ours, other = Document(str(OURS)), Document(document)
    laxer = {
        "template" if "template" in body else field
        for field, body in corpus()
        if accepts(ours, body) and not accepts(other, body)
    }
    assert laxer == set(LAXER)


def whole_conversation(provider: Provider) -> None:
    """Every call of the sink, well and badly."""
    single = json.loads(
        ask(provider, payload(text="Hi", cc="c@d.co", tags=[{"name": "a", "value": "b"}])).body
    )
    soon = json.loads(ask(provider, payload(scheduled_at="in 1 hour"), key="soon").body)["id"]
    ask(provider, payload(attachments=[{"content": "aGk=", "filename": "a.txt"}]), key="clip")
    ask(provider, payload(to=None), key="bad")
    ask_batch(provider, [payload(), payload(to=["a@b.co", "c@d.co"])], key="batch")
    ask_batch(provider, [payload(), payload(to="nonsense")], key="strict")
    ask_batch(provider, {}, key="none")
    for method, path, body in (
        ("GET", "/emails", b""),
        ("GET", f"/emails/{single['id']}", b""),
        ("GET", "/emails/nonsense", b""),
        ("PATCH", f"/emails/{soon}", b'{"scheduled_at": "in 2 hours"}'),
        ("POST", f"/emails/{soon}/cancel", b""),
        ("POST", f"/emails/{soon}/cancel", b""),
    ):
        provider.read(method, path, HEADERS, query={}, body=body)


@pytest.mark.parametrize("document", documents())
def test_every_answer_of_the_sink_is_valid_against(document, clock):
    provider = Provider(SinkOptions(rate_limit=None), clock=clock)
    exchanges = record(provider)
    whole_conversation(provider)
    loaded = Document(document)
    assert {exchange.call for exchange in exchanges} == {
        f"{method.upper()} {path}"
        for path, operations in Document(str(OURS)).loaded["paths"].items()
        for method in operations
    }
    assert [error for one in exchanges for error in loaded.answer_errors(one)] == []
    accepted = [one for one in exchanges if one.reply.status == 200]
    assert [error for one in accepted for error in loaded.request_errors(one)] == []


def test_a_permissive_answer_is_valid_against_our_own_document(clock):
    """Resend's document does not know the mode."""
    provider = Provider(SinkOptions(rate_limit=None), clock=clock)
    reply = ask_batch(provider, [payload(), payload(to="nonsense")], mode="permissive")
    ours = Document(str(OURS))
    assert ours.errors_of(ours.schema("CreateBatchEmailsResponse"), json.loads(reply.body)) == []
