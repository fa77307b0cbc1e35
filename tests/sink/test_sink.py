"""The local Resend: its checks in order, its memory of keys, its faults on real sockets, and an inbox that trusts nobody."""

import contextlib
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest
from asking import HEADERS, ask, ask_batch, error
from factories import payload
from waiting import until

from outboxd.sink.options import AFTER_ACCEPTING, FAULTS, SinkOptions, parse_fault
from outboxd.sink.provider import Provider
from outboxd.sink.reply import ODD_DELAYS
from outboxd.sink.server import running_sink


def test_the_same_key_and_body_replay_one_acceptance(clock):
    provider = Provider(SinkOptions(), clock=clock)
    assert ask(provider, payload()).body == ask(provider, payload()).body
    assert provider.summary() | {"verdicts": None} == {
        "requests": 2, "verdicts": None, "accepted": 1, "uids": 1, "duplicates": 0, "keys_with_two_bodies": 0,
    }  # fmt: skip


def test_the_same_key_with_another_body_is_a_conflict(clock):
    provider = Provider(SinkOptions(), clock=clock)
    ask(provider, payload())
    assert error(ask(provider, payload(subject="other"))) == (409, "invalid_idempotent_request")


def test_a_key_in_flight_is_concurrent(clock):
    provider = Provider(SinkOptions(), clock=clock)
    body = json.dumps(payload()).encode()
    provider.ask(HEADERS | {"idempotency-key": "k"}, body)
    assert error(provider.ask(HEADERS | {"idempotency-key": "k"}, body)) == (
        409,
        "concurrent_idempotent_requests",
    )


def test_a_key_is_forgotten_after_a_day(clock):
    provider = Provider(SinkOptions(), clock=clock)
    first = ask(provider, payload())
    clock.now += 24 * 3600 + 1
    assert ask(provider, payload()).body != first.body


def test_the_eleventh_request_of_a_second_is_too_many(clock):
    provider = Provider(SinkOptions(rate_limit=10), clock=clock)
    replies = [ask(provider, payload(), key=f"k{n}") for n in range(11)]
    assert [reply.status for reply in replies] == [200] * 10 + [429]
    assert (replies[-1].headers["retry-after"], replies[-1].headers["ratelimit-remaining"]) == ("1", "0")
    clock.now += 1
    assert ask(provider, payload(), key="later").status == 200


def test_every_recipient_counts_against_the_quota(clock):
    provider = Provider(SinkOptions(daily_quota=3), clock=clock)
    assert ask(provider, payload(to=["a@b.co", "c@d.co"])).status == 200
    assert error(ask(provider, payload(to=["a@b.co", "c@d.co"]), key="two")) == (429, "daily_quota_exceeded")
    clock.now += 24 * 3600
    assert ask(provider, payload(), key="three").status == 200


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", (400, "validation_error")),
        (b"[]", (422, "validation_error")),
        (payload(to=None), (422, "missing_required_field")),
        (payload(to="nonsense"), (422, "validation_error")),
        (payload(to=[f"u{n}@b.co" for n in range(51)]), (422, "validation_error")),
        (payload(html=None), (422, "validation_error")),
        (payload(tags=[{"name": "a b", "value": "c"}]), (422, "validation_error")),
        (payload(headers={"X": 5}), (422, "validation_error")),
        (payload(attachments=[{"filename": "a"}]), (422, "invalid_attachment")),
        (payload(template={"id": "x"}), (422, "validation_error")),
        (payload(scheduled_at="tomorrow"), (422, "validation_error")),
    ],
)
def test_a_bad_email_is_refused_as_resend_does(clock, body, expected):
    assert error(ask(Provider(SinkOptions(), clock=clock), body)) == expected


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"user-agent": ""}, 403),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer nonsense"}, 401),
        ({"idempotency-key": ""}, 400),
        ({"idempotency-key": "k" * 257}, 400),
    ],
)
def test_a_bad_header_is_refused(clock, headers, status):
    assert ask(Provider(SinkOptions(), clock=clock), payload(), **headers).status == status


def test_an_unverified_domain_is_refused(clock):
    provider = Provider(SinkOptions(verified_domains=frozenset({"other.example"})), clock=clock)
    assert error(ask(provider, payload())) == (403, "validation_error")


@pytest.mark.parametrize(
    "fields",
    [
        {"to": "fault+422.²@example.org"},
        {"to": f"fault+422.{'9' * 5000}@example.org"},
        {"to": "fault+nonsense@example.org"},
        {"scheduled_at": "0001-01-01T00:00:00+23:59"},
        {"tags": [{"name": "outboxd_uid", "value": {}}]},
        {"from": ["a@b.co"]},
        {"template": "ours"},
    ],
)
def test_nothing_that_a_client_sends_raises(clock, fields):
    for mode in ("strict", "permissive"):
        provider = Provider(SinkOptions(verified_domains=frozenset({"shop.example"})), clock=clock)
        assert ask(provider, payload(**fields)).status in {200, 422}
        assert ask_batch(provider, [payload(**fields), 5, None], mode=mode).status in {200, 422}


def post(url: str, to: str, *, timeout: float = 1.0) -> httpx.Response:
    headers = HEADERS | {"idempotency-key": to}
    return httpx.post(f"{url}/emails", json=payload(to=to), headers=headers, timeout=timeout, trust_env=False)


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_a_fault_by_recipient_happens_once_and_then_the_key_is_accepted_once(served, kind, monkeypatch):
    monkeypatch.setattr("outboxd.sink.app.DRIP", 0.02)  # seconds; an answer is some fifty bytes
    to = f"fault+{kind}.1@example.org"
    try:
        first = post(served.url, to)
    except httpx.HTTPError:
        first = None
    entry = served.provider.entries[0]
    assert entry.fault == kind
    assert first is None or first.status_code == entry.status
    until(lambda: post(served.url, to).status_code == 200, what="the key to be accepted")
    assert served.provider.summary()["accepted"] == 1


def test_counted_faults_can_be_ended_and_the_others_stay(served):
    served.provider.control({"counted_faults": False})
    assert post(served.url, "fault+500.3@example.org").status_code == 200
    assert post(served.url, "fault+500@example.org").status_code == 500


def test_what_is_said_after_accepting_leaves_one_acceptance_and_the_rest_none(served):
    for kind in sorted(FAULTS.keys() - {"hang", "accept-hang", "drip", "slow"}):
        with contextlib.suppress(httpx.HTTPError):
            post(served.url, f"fault+{kind}.1@example.org")
        entry = served.provider.entries[-1]
        assert (entry.fault, entry.verdict) == (kind, "new" if kind in AFTER_ACCEPTING else "fault")


@pytest.mark.parametrize(
    ("kind", "begins", "has"),
    [
        ("no-http", b"\x15\x03\x03", b"this is not HTTP"),
        ("http10", b"HTTP/1.0 200 OK", b'{"id": "'),
        ("early-hints", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 200 OK"),
        ("two-lengths", b"HTTP/1.1 200 OK", b"content-length: 5\r\ntransfer-encoding: chunked"),
        ("bad-chunk", b"HTTP/1.1 200 OK", b"\r\n\r\nzz\r\n"),
        ("gzip", b"HTTP/1.1 200 OK", b"content-encoding: gzip"),
        ("redirect", b"HTTP/1.1 307", b"location: /elsewhere"),
        ("407", b"HTTP/1.1 407", b"proxy-authenticate: "),
        ("bad-id", b"HTTP/1.1 200", b'{"id":"em_42"}'),
    ],
)
def test_a_bent_answer_is_on_the_wire_as_it_says(served, kind, begins, has):
    raw = said(served.url, json.dumps(payload(to=f"fault+{kind}@example.org")).encode())
    assert raw.startswith(begins)
    assert has in raw


def test_an_answers_body_does_not_wait_for_the_acknowledgement_of_its_head(served):
    """A reader acknowledges after 40 ms where it has nothing to say itself; the first answers of a connection at once."""
    took = []
    with httpx.Client(trust_env=False) as client:
        for number in range(40):
            headers = HEADERS | {"idempotency-key": str(number)}
            started = time.monotonic()
            client.post(f"{served.url}/emails", json=payload(), headers=headers).raise_for_status()
            took.append(time.monotonic() - started)
    assert sorted(took)[len(took) // 2] < 0.03


def said(url: str, body: bytes) -> bytes:
    """All that the connection says to one request, until it is closed."""
    where = urlsplit(url)
    head = (
        "POST /emails HTTP/1.1\r\nhost: x\r\nuser-agent: t\r\nauthorization: Bearer re_t\r\nidempotency-key: k\r\n"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((where.hostname, where.port), timeout=5) as conn:
        conn.sendall(head.encode() + body)
        return b"".join(iter(lambda: conn.recv(65536), b""))


def test_every_member_of_a_batch_gets_the_bad_id(served):
    body = [payload(to="fault+bad-id@example.org"), payload()]
    headers = HEADERS | {"idempotency-key": "k"}
    answer = httpx.post(f"{served.url}/emails/batch", json=body, headers=headers, trust_env=False)
    assert answer.json() == {"data": [{"id": "em_42"}, {"id": "em_42"}]}


def test_odd_delays_come_in_turn(clock):
    provider = Provider(SinkOptions(rate_limit=None), clock=clock)
    body = payload(to="fault+429-odd@example.org")
    told = [ask(provider, body, key=f"k{n}").headers["retry-after"] for n in range(len(ODD_DELAYS))]
    assert sorted(told) == sorted(ODD_DELAYS)


def test_a_short_life_of_keys_can_be_asked_for(clock):
    provider = Provider(SinkOptions(key_ttl=60), clock=clock)
    first = ask(provider, payload())
    clock.now += 59
    assert ask(provider, payload()).body == first.body
    clock.now += 2
    assert ask(provider, payload()).body != first.body


def test_the_ledger_has_a_request_before_its_client_hears_of_it(served):
    with pytest.raises(httpx.HTTPError):
        post(served.url, "fault+accept-reset@example.org")
    assert [entry.verdict for entry in served.provider.entries] == ["new"]


def test_two_requests_at_once_under_one_key_are_accepted_once():
    with running_sink(SinkOptions(port=0, rate_limit=None, think_time=0.2)) as running:
        codes: list[int] = []
        threads = [
            threading.Thread(target=lambda: codes.append(post(running.url, "a@b.co").status_code))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(codes) == [200, 409]
        assert running.provider.summary()["accepted"] == 1


def test_control_changes_it_while_it_runs(served):
    answer = httpx.post(f"{served.url}/_sink/control", json={"key_mode": "revoked"}, trust_env=False)
    assert answer.json()["ok"] is True
    assert post(served.url, "a@b.co").status_code == 401
    assert httpx.post(f"{served.url}/_sink/control", json={"nonsense": 1}, trust_env=False).status_code == 400


XSS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}$body",
]


@pytest.mark.parametrize("vector", XSS)
def test_the_inbox_shows_strangers_text_as_text(served, vector):
    body = payload(
        subject=f"s {vector}",
        text=vector,
        html=f"<p>{vector}</p>",
        to="Ada <a@b.co>",
        headers={"X-A": vector},
        attachments=[{"filename": vector, "content": "aGk="}],
    )
    headers = HEADERS | {"idempotency-key": "x"}
    provider_id = httpx.post(f"{served.url}/emails", json=body, headers=headers, trust_env=False).json()["id"]
    for path in ("/", f"/inbox/{provider_id}"):
        page = httpx.get(f"{served.url}{path}", trust_env=False)
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "<svg/onload" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    mail = httpx.get(f"{served.url}/inbox/{provider_id}/html", trust_env=False)
    assert mail.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


def test_an_unknown_fault_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown fault 'nonsense'"):
        parse_fault("nonsense:0.5")
    assert parse_fault("slow:0.5:3").argument == 3


def test_half_a_request_is_no_request(served):
    body = json.dumps(payload()).encode()
    head = f"POST /emails HTTP/1.1\r\nhost: x\r\nuser-agent: t\r\nauthorization: Bearer re_t\r\nidempotency-key: k\r\ncontent-length: {len(body)}\r\n\r\n"
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname, where.port)) as half:
        half.sendall(head.encode() + body[:-5])
    headers = HEADERS | {"idempotency-key": "k"}
    whole = httpx.post(f"{served.url}/emails", content=body, headers=headers)
    assert whole.status_code == 200
    until(lambda: served.provider.summary()["requests"] >= 1, what="the whole request")
    assert served.provider.summary()["verdicts"] == {"new": 1}
