"""Any request gets an answer from the local Resend: no traceback, no 500 that was not asked for."""

import asyncio
import json
from typing import Any

import pytest
from factories import payload
from hypothesis import given
from hypothesis import strategies as st
from test_fuzz_payloads import payloads
from trying import LONG_TEXTS, cheaply, hostile_text, json_values, many

from outboxd.sink.app import Sink
from outboxd.sink.options import SinkOptions

PATHS = [
    "/emails", "/emails/", "/emails/batch", "/emails/x", "/emails/x/cancel", "/_sink/control", "/_sink/ledger",
    "/_sink/summary", "/", "/inbox", "/emails//", "/%00", "/../etc/passwd",
]  # fmt: skip
headers = st.dictionaries(
    st.sampled_from(["authorization", "idempotency-key", "content-type", "user-agent", "x-batch-validation"]),
    st.sampled_from(["Bearer re_test_0123456789", "permissive", "application/json", "k" * 300, ""])
    | hostile_text(20),
)
bodies = st.one_of(
    st.binary(max_size=100),
    json_values.map(lambda value: json.dumps(value).encode()),
    payloads.map(lambda value: json.dumps(value).encode()),
    st.lists(payloads, max_size=3).map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(["faults", "rate_limit", "think_time", "key_modes", "verified_domains", "keep", "seed", "x"]),
        json_values | st.just(["500:2"]) | st.just(["429:1:nan"]),
    ).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip
queries = st.sampled_from(
    ["", "after=1", "after=x", "limit=5", "limit=-1", "limit=9999999999999999999", "after=%00", "q=%ff"]
)


def ask(
    sink: Sink, path: str, method: str = "POST", body: bytes = b"", query: str = "", **found: str
) -> tuple[int, bytes]:
    """One request straight to the application."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path, "scheme": "http",
        "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1), "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in found.items()],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(sink(scope, receive, send))
    return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:])


@many(300)
@given(st.sampled_from(PATHS), st.sampled_from(["POST", "GET", "PATCH", "DELETE"]), headers, bodies, queries)
def test_any_request_is_answered(path, method, found, body, query):
    sink = Sink(SinkOptions(rate_limit=None))
    status, answer = ask(sink, path, method, body, query, **found)
    assert 200 <= status < 500, (status, answer[:200])
    usual = {
        "authorization": "Bearer re_test_0123456789",
        "user-agent": "test",
        "content-type": "application/json",
    }
    if not path.startswith("/_sink/control"):
        status, answer = ask(sink, "/emails", body=json.dumps(payload()).encode(), **usual)
        assert status == 200, answer


@pytest.mark.parametrize(
    "query", ["after=x", "after=%00", "after=" + "9" * 5000, "after=-1", "limit=x&after=1"]
)
@pytest.mark.parametrize("path", ["/_sink/ledger", "/emails", "/", "/inbox"])
def test_any_query_is_answered(path, query):
    usual = {"authorization": "Bearer re_test_0123456789", "user-agent": "test"}
    assert ask(Sink(SinkOptions(rate_limit=None)), path, "GET", query=query, **usual)[0] < 500


@pytest.mark.parametrize("text", LONG_TEXTS, ids=lambda text: ascii(text[:8]))
def test_a_long_email_costs_little(text):
    usual = {"authorization": "Bearer re_test_0123456789", "user-agent": "test"}
    for field in ("from", "to", "subject", "headers", "tags"):
        body = json.dumps(payload(**{field: text})).encode()
        sink = Sink(SinkOptions(rate_limit=None))
        cheaply(lambda body=body, sink=sink: ask(sink, "/emails", body=body, **usual))
