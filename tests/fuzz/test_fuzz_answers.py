"""Whatever a provider answers becomes one outcome, and never Sent without an id of the documented form."""

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trying import LONG_TEXTS, cheaply, hostile_text, json_values, many

from outboxd.core.outcome import Ambiguous, Failed, Failure, Sent, SentAll
from outboxd.core.signature import signature
from outboxd.resend.answer import Answer, TransportFailure, named_rate, retry_after
from outboxd.resend.classify import classify, classify_batch
from outboxd.resend.client import Client, shared_ssl_context

NOW = datetime(2026, 3, 28, 22, tzinfo=UTC)
ID = "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"
UUID_FORM = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
NAMES = [
    "validation_error", "rate_limit_exceeded", "daily_quota_exceeded", "monthly_quota_exceeded", "missing_api_key",
    "invalid_api_key", "concurrent_idempotent_requests", "invalid_idempotent_request", "not_found", "security_error",
]  # fmt: skip
statuses = st.sampled_from(
    [200, 201, 204, 301, 400, 401, 403, 404, 405, 408, 409, 413, 422, 429, 451, 500, 503]
) | (st.integers(100, 999))
contents = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(NAMES) | json_values,
            "message": hostile_text() | json_values,
            "id": st.sampled_from([ID, ID + "\n", ID[:-1], ID.replace("4", "٤")]) | json_values,
            "data": st.lists(st.fixed_dictionaries({"id": st.just(ID) | json_values}), max_size=3)
            | json_values,
            "errors": json_values,
        },
    ).map(lambda value: json.dumps(value).encode()),
)
numbers = st.sampled_from(
    ["", "0", "-1", "1e9", "1e999", "nan", "inf", "-inf", "0x10", "1_0", "٣", "9" * 400]
) | (st.one_of(hostile_text(30), st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT"))))
headers = st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.sampled_from(["application/json", "text/html", ""]) | hostile_text(20),
        "retry-after": numbers,
        "ratelimit-reset": numbers,
        "ratelimit-limit": numbers,
    },
)
answers = st.builds(Answer, statuses, headers, contents)


def storable(failure: Failure) -> bool:
    texts = [failure.kind, failure.message, failure.name, failure.excerpt]
    whole = "".join(text for text in texts if text)
    return "\x00" not in whole and len(whole) < 5_000 and whole.encode() is not None


@many(400)
@given(answers)
def test_any_answer_is_an_outcome_that_can_be_stored(answer):
    outcome = classify(answer, now=NOW)
    if isinstance(outcome, Sent):
        assert answer.status // 100 == 2
        assert UUID_FORM.fullmatch(outcome.provider_id)
        assert outcome.provider_id.isascii()
        return
    assert storable(outcome.failure)
    assert signature(outcome.failure)
    assert "\n" not in outcome.failure.message
    json.dumps(asdict(outcome.failure)).encode()
    after = getattr(outcome, "after", None)
    assert after is None or timedelta() <= after <= timedelta(minutes=15)
    if answer.status // 100 in {2, 5} or answer.status == 408:
        assert isinstance(outcome, Ambiguous), "what may have been accepted is taken for refused"


@many(300)
@given(answers, st.integers(1, 3))
def test_any_answer_for_many_accepts_all_with_ids_of_their_own_or_none(answer, count):
    outcome = classify_batch(answer, count, now=NOW)
    if isinstance(outcome, SentAll):
        assert answer.status // 100 == 2
        assert len(set(outcome.provider_ids)) == len(outcome.provider_ids) == count
    else:
        assert not isinstance(outcome, Sent)


@many(300)
@given(headers)
def test_any_header_asks_for_a_bounded_delay_and_a_positive_rate(found):
    assert timedelta() <= retry_after(found, now=NOW) <= timedelta(minutes=15)
    rate = named_rate(found)
    assert rate is None or 0 < rate < 1e6


@pytest.mark.parametrize("text", LONG_TEXTS, ids=lambda text: ascii(text[:8]))
@pytest.mark.parametrize("status", [200, 403, 422, 429, 500])
def test_a_long_answer_costs_little(text, status):
    raw = text.encode("utf-8", "replace")[:65_536]
    found = {"content-type": "application/json", "retry-after": text, "ratelimit-limit": text}
    short = text[:20_000]
    wrapped = json.dumps({"name": short, "message": short, "data": [{"id": short}] * 2}).encode()
    for body in (raw, wrapped):
        cheaply(lambda body=body: classify(Answer(status, found, body), now=NOW))
        cheaply(lambda body=body: classify_batch(Answer(status, found, body), 2, now=NOW))


# On the wire

Serve = Callable[[bytes], str]


@pytest.fixture(scope="module")
def says() -> Iterator[Serve]:
    """A server that reads a request and says these bytes, whatever they are, then cuts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = [b""]

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    conn, _ = listener.accept()
                    with conn, contextlib.suppress(OSError):
                        conn.settimeout(2.0)
                        conn.recv(65_536)
                        conn.sendall(answer[0])
                        if len(answer[0]) % 2:
                            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        threading.Thread(target=serve, daemon=True).start()

        def say(raw: bytes) -> str:
            answer[0] = raw
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield say
        listener.shutdown(socket.SHUT_RDWR)


OK = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 45\r\n\r\n{"id":"'
    + ID.encode()
    + b'"}'
)
lines = st.sampled_from(
    [
        b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 103 Early Hints", b"HTTP/1.0 200 OK", b"HTTP/2 200",
        b"HTTP/1.1 301 Moved", b"Location: http://127.0.0.1:1/", b"Content-Length: 5", b"Content-Length: -1",
        b"Content-Length: 99999999999", b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Connection: close",
        b"Content-Type: application/json", b"", b"5", b"hello", b"0", b"ffffffff", b"-1", b"X" * 3000, b"X: " + b"y" * 70_000,
        b"Retry-After: 1", b"\x16\x03\x01\x02\x00", b": nameless", b"a b: c", b" folded",
    ]
)  # fmt: skip
spoken = st.one_of(
    st.binary(max_size=300),
    st.lists(lines, max_size=8).map(b"\r\n".join),
    st.lists(lines, max_size=5).map(
        lambda found: b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(found) + b"\r\n\r\n{}"
    ),
    st.tuples(st.integers(0, len(OK) - 1), st.integers(0, 255)).map(
        lambda at: OK[: at[0]] + bytes([at[1]]) + OK[at[0] + 1 :]
    ),
    st.integers(0, len(OK)).map(lambda end: OK[:end]),
)


@many(60)
@given(spoken)
def test_any_bytes_on_the_wire_are_an_answer_or_a_failure_of_transport(says, raw):
    client = Client(
        says(raw),
        lambda: "re_test_0123456789",
        deadline=timedelta(seconds=3),
        ssl_context=shared_ssl_context(),
    )
    try:
        found = client.send(b"{}", "obx1.key.1")
    finally:
        client.close()
    assert isinstance(found, Answer | TransportFailure)
    if isinstance(found, Answer):
        assert len(found.body) <= 65_536
    elif found.kind == "not_sent":
        raise AssertionError("the request was read, and counts as not sent")
    assert not isinstance(classify(found, now=NOW), Failed) or found.status // 100 in {3, 4, 1}


@pytest.mark.parametrize("text", LONG_TEXTS, ids=lambda text: ascii(text[:8]))
def test_a_long_answer_on_the_wire_costs_little(says, text):
    """One that is read to its end, and one that would take more memory than is allowed."""
    raw = text.encode("utf-8", "replace")
    client = Client(
        says(b""),
        lambda: "re_test_0123456789",
        deadline=timedelta(seconds=3),
        ssl_context=shared_ssl_context(),
    )
    try:
        for start in (b"", b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"):
            for whole in (raw[:60_000], raw * 200):
                says(start + whole)
                cheaply(lambda: client.send(b"{}", "obx1.key.1"))
    finally:
        client.close()
