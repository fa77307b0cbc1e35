"""Every request of the daemon and every answer it gets, against the sink's own document and the provider's.

The provider's document is not part of this repository: RESEND_OPENAPI names it, or it lies beside the checkout.
"""

import psycopg
import pytest
from conftest_path import count, drained
from factories import insert, payload
from openapi import Document, documents, record
from waiting import until

from outboxd import enqueue, enqueue_many

pytestmark = [pytest.mark.path, pytest.mark.slow]


@pytest.mark.parametrize("document", documents())
def test_requests_and_answers_are_valid_against(database, conn, sink, daemon, document):
    running = sink()
    exchanges = record(running.provider)
    rich = payload(
        to=["Zoë <zoe@example.org>", "bob@bücher.example"], cc="c@example.org", headers={"X-Order": "7"}, text="Hi",
        tags=[{"name": "order", "value": "7"}], reply_to="r@example.org",
    )  # fmt: skip
    clip = {"filename": "a.txt", "content": "aGk=", "content_type": "text/plain"}
    with psycopg.connect(database) as app:
        enqueue(app, rich | {"attachments": [clip]}, type="welcome")
        plain = [payload(), payload(html=None, text="only text")] * 20
        enqueue_many(app, [{"type": "newsletter", "payload": body} for body in [rich, *plain]])
    for kind in ("422", "429.1", "503.1"):
        insert(conn, body=payload(to=f"fault+{kind}@example.org"))
    daemon(running.url)
    until(lambda: count(conn, "delivery", "state = 'sent'") == 44, what="44 deliveries", within=30)
    until(lambda: drained(conn), what="the refused email to end")
    assert {one.call for one in exchanges} == {"POST /emails", "POST /emails/batch"}
    assert {200, 422, 429, 503} <= {one.reply.status for one in exchanges}
    loaded = Document(document)
    assert [error for one in exchanges for error in loaded.request_errors(one)] == []
    assert [error for one in exchanges for error in loaded.answer_errors(one)] == []
