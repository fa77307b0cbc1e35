"""What the daemon's client makes of answers that bend HTTP: never a success without its id, and never a no after a yes."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from factories import payload
from waiting import until

from outboxd.core.outcome import Ambiguous, Failed, Sent, Throttled
from outboxd.resend.classify import classify
from outboxd.resend.client import Client, shared_ssl_context

NOW = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("http10", Sent),
        ("early-hints", Sent),
        ("two-lengths", Sent),
        ("gzip", Ambiguous),
        ("no-http", Ambiguous),
        ("bad-chunk", Ambiguous),
        ("bad-id", Ambiguous),
        ("redirect", Failed),
        ("407", Failed),
        ("429-odd", Throttled),
    ],
)
def test_a_bent_answer_has_its_outcome_and_the_next_ask_is_accepted_once(served, kind, outcome):
    client = Client(
        served.url, lambda: "re_x", deadline=timedelta(seconds=5), ssl_context=shared_ssl_context()
    )
    body = json.dumps(payload(to=f"fault+{kind}.1@example.org")).encode()
    assert type(classify(client.send(body, "k"), now=NOW)) is outcome
    until(lambda: isinstance(classify(client.send(body, "k"), now=NOW), Sent), what="the key to be accepted")
    client.close()
    assert served.provider.summary()["accepted"] == 1
