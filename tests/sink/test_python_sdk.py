"""The official Python client, unchanged, against the local Resend."""

from collections.abc import Iterator

import pytest
import resend
from factories import payload
from resend.exceptions import (
    ApplicationError,
    MissingApiKeyError,
    MissingRequiredFieldsError,
    RateLimitError,
    ResendError,
    ValidationError,
)

from outboxd.sink.server import Running

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def sink(served: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(resend, "api_url", served.url)
    monkeypatch.setattr(resend, "api_key", "re_test")
    yield served
    session = getattr(resend.default_http_client, "session", None)
    if session is not None:
        session.close()


def to(address: str) -> dict:
    return payload(to=address)


@pytest.mark.usefixtures("sink")
def test_an_email_is_sent_read_and_listed():
    sent = resend.Emails.send(payload(text="Hi", reply_to="r@example.org"))
    read = resend.Emails.get(sent["id"])
    assert (read["subject"], read["text"], read["last_event"]) == ("Hello", "Hi", "delivered")
    assert [one["id"] for one in resend.Emails.list()["data"]] == [sent["id"]]


@pytest.mark.usefixtures("sink")
def test_a_list_pages():
    sent = [one["id"] for one in resend.Batch.send([to(f"u{n}@example.org") for n in range(5)])["data"]]
    first = resend.Emails.list({"limit": 3})
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (sent[:1:-1], True)
    rest = resend.Emails.list({"limit": 3, "after": first["data"][-1]["id"]})
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (sent[1::-1], False)


@pytest.mark.usefixtures("sink")
def test_a_scheduled_email_is_moved_and_canceled():
    sent = resend.Emails.send(payload(scheduled_at="in 1 hour"))
    assert resend.Emails.update({"id": sent["id"], "scheduled_at": "in 2 hours"})["id"] == sent["id"]
    assert resend.Emails.cancel(sent["id"])["id"] == sent["id"]
    assert resend.Emails.get(sent["id"])["last_event"] == "canceled"
    with pytest.raises(ValidationError, match="Only a scheduled email"):
        resend.Emails.cancel(sent["id"])


def test_a_strict_batch_is_all_or_nothing(sink):
    good = resend.Batch.send([to("a@b.co"), to("c@d.co")])
    assert len(good["data"]) == 2
    with pytest.raises(ValidationError, match="Invalid `to` field"):
        resend.Batch.send([to("e@f.co"), to("nonsense")])
    assert sink.provider.summary()["accepted"] == 2


@pytest.mark.usefixtures("sink")
def test_a_permissive_batch_sorts():
    answer = resend.Batch.send([to("nonsense"), to("a@b.co")], {"batch_validation": "permissive"})
    assert len(answer["data"]) == 1
    assert [error["index"] for error in answer["errors"]] == [0]


def test_a_key_replays_and_refuses_another_body(sink):
    options = {"idempotency_key": "welcome/42"}
    assert resend.Emails.send(to("a@b.co"), options)["id"] == resend.Emails.send(to("a@b.co"), options)["id"]
    with pytest.raises(ResendError) as caught:
        resend.Emails.send(to("c@d.co"), options)
    assert (caught.value.code, caught.value.error_type) == (409, "invalid_idempotent_request")
    batch = {"idempotency_key": "batch/42"}
    both = [to("a@b.co"), to("c@d.co")]
    assert resend.Batch.send(both, batch)["data"] == resend.Batch.send(both, batch)["data"]
    assert sink.provider.summary()["accepted"] == 3


@pytest.mark.parametrize(
    ("changes", "kind", "code", "name"),
    [
        ({"key_mode": "revoked"}, ResendError, 401, "validation_error"),
        ({"key_mode": "revoked-400"}, ValidationError, 400, "validation_error"),
        ({"key_mode": "restricted"}, ResendError, 401, "restricted_api_key"),
        ({"key_mode": "inactive"}, ResendError, 403, "restricted_api_key"),
        ({"key_mode": "suspended"}, ResendError, 403, "suspended_api_key"),
        ({"verified_domains": frozenset({"other.example"})}, ResendError, 403, "validation_error"),
        ({"edge_block": True}, ResendError, 403, "application_error"),
        ({"daily_quota": 0}, RateLimitError, 429, "daily_quota_exceeded"),
        ({"monthly_quota": 0}, RateLimitError, 429, "monthly_quota_exceeded"),
        ({"rate_limit": 0}, RateLimitError, 429, "rate_limit_exceeded"),
    ],
)
def test_an_accounts_error_has_the_clients_class(sink, changes, kind, code, name):
    sink.provider.control(changes)
    for send in (lambda: resend.Emails.send(payload()), lambda: resend.Batch.send([payload()])):
        with pytest.raises(ResendError) as caught:
            send()
        assert (type(caught.value), int(caught.value.code), caught.value.error_type) == (kind, code, name)


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("422", ValidationError, 422),
        ("400", ValidationError, 400),
        ("429", RateLimitError, 429),
        ("500", ApplicationError, 500),
        ("503", ResendError, 503),
        ("html-502", ResendError, 502),
        ("reset", ResendError, 500),
        ("accept-reset", ResendError, 500),
        ("truncated", ApplicationError, 500),
        ("concurrent", ResendError, 409),
    ],
)
def test_a_fault_has_the_clients_class_and_a_repetition_is_accepted_once(sink, fault, kind, code):
    for send, name in ((resend.Emails.send, "single"), (lambda *a: resend.Batch.send([a[0]], a[1]), "batch")):
        email, options = to(f"fault+{fault}.1@example.org"), {"idempotency_key": name}
        with pytest.raises(ResendError) as caught:
            send(email, options)
        assert (type(caught.value), int(caught.value.code)) == (kind, code)
        send(email, options)
    assert sink.provider.summary()["accepted"] == 2


@pytest.mark.usefixtures("sink")
def test_a_missing_field_a_missing_key_and_a_missing_email_are_named(monkeypatch):
    with pytest.raises(MissingRequiredFieldsError, match="Missing `to` field"):
        resend.Emails.send(payload(to=None))
    with pytest.raises(ResendError, match="Email not found"):
        resend.Emails.get(NOBODY)
    with pytest.raises(ResendError, match="valid UUID"):
        resend.Emails.get("nonsense")
    monkeypatch.setattr(resend, "api_key", "")
    with pytest.raises(MissingApiKeyError):
        resend.Emails.send(payload())


def test_a_sending_key_may_not_read(sink):
    sink.provider.control({"key_mode": "sending"})
    sent = resend.Emails.send(payload())
    for call in (lambda: resend.Emails.get(sent["id"]), resend.Emails.list):
        with pytest.raises(ResendError) as caught:
            call()
        assert (caught.value.code, caught.value.error_type) == (401, "restricted_api_key")
