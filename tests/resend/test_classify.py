"""The table of answers, row by row, and what is in no row."""

import json
import socket
import ssl
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from certificates import SELF_SIGNED
from hypothesis import given
from hypothesis import strategies as st

from outboxd.core.outcome import (
    Ambiguous,
    Failed,
    Paused,
    Rejected,
    Sent,
    Throttled,
    Unresolvable,
)
from outboxd.resend.answer import Answer, TransportFailure
from outboxd.resend.classify import classify, classify_batch

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
ID = "7c1f0a52-3d1e-4b7a-9a51-0d5f2f6b8e10"
JSON = {"content-type": "application/json; charset=utf-8"}


def answer(status: int, body: object = b"", **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, JSON | {name.replace("_", "-"): value for name, value in headers.items()}, data)


def refusal(status: int, name: str, message: str = "No.", **headers: str) -> Answer:
    return answer(status, {"statusCode": status, "message": message, "name": name}, **headers)


def summary(result: Answer | TransportFailure) -> tuple[str, str]:
    """The outcome's name and what distinguishes it: the failure's kind, or the scope of a pause."""
    outcome = classify(result, now=NOW)
    if isinstance(outcome, Paused):
        return "Paused", outcome.scope
    return type(outcome).__name__, outcome.failure.kind


TABLE = [
    (400, "invalid_idempotency_key", "No.", ("Rejected", "bug")),
    (400, "validation_error", "Invalid `to` field.", ("Rejected", "message")),
    (400, "validation_error", "Invalid `from` field.", ("Paused", "domain")),
    (400, "validation_error", "API key is invalid", ("Paused", "account")),
    (401, "validation_error", "API key is invalid", ("Paused", "account")),
    (403, "validation_error", "API key is invalid.", ("Paused", "account")),
    (400, "some_new_name", "API key is invalid", ("Paused", "account")),
    (401, "missing_api_key", "Missing API key in the authorization header.", ("Paused", "account")),
    (401, "restricted_api_key", "This API key is restricted", ("Paused", "account")),
    (401, "some_new_name", "No.", ("Paused", "account")),
    (403, "restricted_api_key", "API key is not active", ("Paused", "account")),
    (403, "suspended_api_key", "This API key is suspended", ("Paused", "account")),
    (403, "invalid_api_key", "No.", ("Paused", "account")),
    (403, "invalid_permission", "No.", ("Paused", "account")),
    (403, "validation_error", "The `x.example` domain is not verified. Add it.", ("Paused", "domain")),
    (403, "validation_error", "You can only send testing emails to your own address.", ("Paused", "account")),
    (403, "email_above_quota", "No.", ("Failed", "unexpected")),
    (404, "not_found", "The requested endpoint does not exist", ("Rejected", "bug")),
    (404, "not_found", "Template not found", ("Rejected", "message")),
    (405, "method_not_allowed", "No.", ("Rejected", "bug")),
    (408, "request_timeout", "No.", ("Ambiguous", "ambiguous")),
    (409, "concurrent_idempotent_requests", "No.", ("Ambiguous", "ambiguous")),
    (409, "invalid_idempotent_request", "No.", ("Unresolvable", "bug")),
    (409, "resource_locked", "No.", ("Failed", "transient")),
    (413, "payload_too_large", "No.", ("Rejected", "message")),
    (422, "missing_required_field", "Missing `to` field.", ("Rejected", "message")),
    (422, "missing_required_parameter", "No.", ("Rejected", "bug")),
    (422, "invalid_parameter", "Invalid `to` field.", ("Rejected", "message")),
    (422, "invalid_parameter", "Invalid `from` field.", ("Paused", "domain")),
    (422, "validation_error", "Invalid `to` field. It is not of the form …", ("Rejected", "message")),
    (422, "validation_error", "Invalid `from` field. It is not of the form …", ("Paused", "domain")),
    (422, "validation_error", "Invalid `subject` field: `from` is no subject", ("Rejected", "message")),
    (422, "validation_error", "Invalid `to` field: API key is invalid", ("Rejected", "message")),
    (422, "invalid_attachment", "No.", ("Rejected", "message")),
    (422, "invalid_from_address", "No.", ("Paused", "domain")),
    (422, "invalid_access", "No.", ("Rejected", "bug")),
    (422, "invalid_region", "No.", ("Rejected", "bug")),
    (429, "rate_limit_exceeded", "Too many requests.", ("Throttled", "throttle")),
    (429, "daily_quota_exceeded", "No.", ("Paused", "account")),
    (429, "monthly_quota_exceeded", "No.", ("Paused", "account")),
    (429, "weekly_quota_exceeded", "No.", ("Paused", "account")),
    (429, "some_new_name", "No.", ("Throttled", "throttle")),
    (451, "security_error", "No.", ("Paused", "account")),
    (451, "some_new_name", "No.", ("Paused", "account")),
    (500, "application_error", "No.", ("Ambiguous", "ambiguous")),
    (500, "internal_server_error", "No.", ("Ambiguous", "ambiguous")),
    (503, "service_unavailable", "No.", ("Ambiguous", "ambiguous")),
    (400, "some_new_name", "No.", ("Failed", "unexpected")),
    (403, "some_new_name", "No.", ("Failed", "unexpected")),
    (404, "validation_error", "No.", ("Failed", "unexpected")),
    (409, "some_new_name", "No.", ("Failed", "unexpected")),
    (418, "some_new_name", "No.", ("Failed", "unexpected")),
    (422, "some_new_name", "No.", ("Failed", "unexpected")),
]


@pytest.mark.parametrize(("status", "name", "message", "expected"), TABLE)
def test_a_refusal_is_read_by_status_name_and_message(status, name, message, expected):
    assert summary(refusal(status, name, message)) == expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (101, b"", ("Ambiguous", "ambiguous")),
        (301, b"", ("Failed", "unexpected")),
        (307, {"id": ID}, ("Failed", "unexpected")),
        (400, b"<html>Bad Request</html>", ("Failed", "unexpected")),
        (401, b"", ("Paused", "account")),
        (403, b"error code: 1010", ("Paused", "account")),
        (403, b"<html>blocked</html>", ("Paused", "account")),
        (404, b"<html>Not Found</html>", ("Failed", "unexpected")),
        (407, b"", ("Failed", "unexpected")),
        (408, b"", ("Ambiguous", "ambiguous")),
        (413, b"<html>too large</html>", ("Rejected", "message")),
        (422, [], ("Failed", "unexpected")),
        (422, {"name": 7, "message": ["x"]}, ("Failed", "unexpected")),
        (429, b"error code: 1015", ("Throttled", "throttle")),
        (451, b"", ("Paused", "account")),
        (500, b"", ("Ambiguous", "ambiguous")),
        (502, b"<html>Bad Gateway</html>", ("Ambiguous", "ambiguous")),
        (504, {"id": ID}, ("Ambiguous", "ambiguous")),
        (999, b"", ("Ambiguous", "ambiguous")),
    ],
)
def test_an_answer_without_error_object_is_read_by_its_status(status, body, expected):
    assert summary(answer(status, body)) == expected


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_success_with_an_id_is_sent(status):
    assert classify(answer(status, {"id": ID}), now=NOW) == Sent(ID)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'"' + ID.encode() + b'"',
        b"<html>welcome</html>",
        b"\xff\xfe\x00",
        b"[" * 50_000,
        b"1" * 10_000,
        {},
        {"id": None},
        {"id": 7},
        {"id": ""},
        {"id": "string"},
        {"id": ID + "\n"},
        {"id": ID + "0"},
        {"data": {"id": ID}},
        {"ID": ID},
    ],
)
def test_a_success_without_a_valid_id_is_ambiguous(body):
    assert summary(answer(200, body)) == ("Ambiguous", "ambiguous")


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/html"}])
def test_a_success_that_does_not_say_that_it_is_json_is_ambiguous(headers):
    body = json.dumps({"id": ID}).encode()
    assert summary(Answer(200, headers, body)) == ("Ambiguous", "ambiguous")


def test_a_request_that_was_not_sent_has_failed():
    outcome = classify(TransportFailure("not_sent", "refused"), now=NOW)
    assert isinstance(outcome, Failed)
    assert (outcome.transient, outcome.failure.message) == (True, "refused")


def test_a_request_without_a_known_end_is_ambiguous():
    assert summary(TransportFailure("ambiguous", "reset")) == ("Ambiguous", "ambiguous")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("ConnectError: [Errno 111] Connection refused", "ECONNREFUSED"),
        ("ReadError: [Errno 104] Connection reset by peer", "ECONNRESET"),
        ("ConnectError: api.resend.com: [Errno -2] Name or service not known", "EAI_NONAME"),
        ("ReadError: [SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] bad mac (_ssl.c:2580)", "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
        ("ConnectError: [Errno 99999] a stranger", None),
        ("ConnectTimeout: timed out", None),
        ("RemoteProtocolError: illegal status line: bytearray(b'[Errno 111] x')", None),
        ("the answer to obx1.b.1 is that to the request before", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["not_sent", "ambiguous"])
def test_a_failure_of_the_network_tells_its_code_where_it_has_one(kind, message, code):
    assert classify(TransportFailure(kind, message), now=NOW).failure.code == code


def test_a_refused_connection_tells_its_errno(client_for):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert classify(client_for(url).send(b"{}", "key"), now=NOW).failure.code == "ECONNREFUSED"


def test_a_certificate_that_is_not_trusted_tells_the_reason_of_tls(peer, client_for):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)
    server = peer(lambda _peer, connection: connection.read_request(), tls=context)
    failure = classify(client_for(server.url).send(b"{}", "key"), now=NOW).failure
    assert failure.code == "CERTIFICATE_VERIFY_FAILED"


def test_an_answer_has_no_code():
    assert classify(refusal(422, "validation_error"), now=NOW).failure.code is None


def test_an_unknown_refusal_keeps_out_of_the_slow_phase():
    outcome = classify(refusal(418, "teapot"), now=NOW)
    assert isinstance(outcome, Failed)
    assert outcome.transient is False


def test_a_throttle_says_how_long():
    outcome = classify(refusal(429, "rate_limit_exceeded", retry_after="7"), now=NOW)
    assert isinstance(outcome, Throttled)
    assert outcome.after == timedelta(seconds=7)


def test_an_ask_in_flight_is_asked_again_in_seconds():
    outcome = classify(refusal(409, "concurrent_idempotent_requests"), now=NOW)
    assert isinstance(outcome, Ambiguous)
    assert timedelta(seconds=1) <= outcome.after <= timedelta(seconds=5)


@pytest.mark.parametrize(("headers", "after"), [({"retry_after": "30"}, timedelta(seconds=30)), ({}, None)])
def test_an_overloaded_provider_may_ask_for_a_delay(headers, after):
    outcome = classify(refusal(503, "service_unavailable", **headers), now=NOW)
    assert isinstance(outcome, Ambiguous)
    assert outcome.after == after


def test_a_failure_tells_what_the_provider_said():
    failure = classify(refusal(422, "missing_required_field", "Missing\n`to` field."), now=NOW).failure
    assert (failure.name, failure.status, failure.message) == (
        "missing_required_field",
        422,
        "Missing `to` field.",
    )
    assert failure.excerpt.startswith('{"statusCode": 422')


def test_a_failure_without_words_tells_its_status():
    failure = classify(answer(502, b"<html>Bad Gateway</html>"), now=NOW).failure
    assert (failure.message, failure.excerpt) == (
        "HTTP 502 with no error message",
        "<html>Bad Gateway</html>",
    )


any_text = st.text(alphabet=st.characters(codec=None), max_size=50)
error_objects = st.fixed_dictionaries(
    {},
    optional={
        "statusCode": st.integers() | any_text,
        "name": any_text | st.sampled_from(sorted({name for _, name, _, _ in TABLE})) | st.none(),
        "message": any_text | st.text(min_size=1_990, max_size=2_100) | st.lists(any_text, max_size=2),
        "id": any_text | st.uuids().map(str),
    },
).map(lambda value: json.dumps(value).encode())
answers = st.builds(
    Answer,
    status=st.integers(100, 999) | st.sampled_from(sorted({status for status, *_ in TABLE} | {200})),
    headers=st.dictionaries(st.sampled_from(["content-type", "retry-after"]), any_text | st.just("json")),
    body=st.binary(max_size=4_000) | error_objects,
)


@given(answers)
def test_any_answer_has_an_outcome_whose_text_can_be_stored(some_answer):
    outcome = classify(some_answer, now=NOW)
    if isinstance(outcome, Sent):
        assert some_answer.status // 100 == 2
        assert len(outcome.provider_id) == 36
        return
    assert isinstance(outcome, Ambiguous | Failed | Paused | Rejected | Throttled | Unresolvable)
    failure = outcome.failure
    assert len(failure.message.splitlines()) == 1
    for text in (failure.message, failure.name or "", failure.excerpt or ""):
        assert len(text) <= 2_000
        assert "\x00" not in text
        assert text.encode() is not None


@given(answers)
def test_only_a_refusal_proves_that_nothing_was_accepted(some_answer):
    """Whatever is neither 3xx nor 4xx leaves the end open, unless it is a success with an id."""
    outcome = classify(some_answer, now=NOW)
    if not 300 <= some_answer.status < 500:
        assert isinstance(outcome, Sent | Ambiguous)


def test_a_batch_that_is_accepted_without_naming_all_of_it_says_how_many_it_named():
    body = json.dumps({"data": [{"id": str(uuid4())} for _ in range(99)]}).encode()
    answer = Answer(200, {"content-type": "application/json"}, body)
    outcome = classify_batch(answer, 100, now=NOW)
    assert isinstance(outcome, Ambiguous)
    assert (outcome.failure.code, outcome.failure.message) == (
        "wrong_count",
        "HTTP 200 with 99 usable ids for 100 emails",
    )
