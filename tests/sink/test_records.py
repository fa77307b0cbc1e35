"""What was accepted, read back: one, a page, canceled, rescheduled; and who may."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from asking import HEADERS, ask, ask_batch, error
from factories import payload

from outboxd.sink.options import SinkOptions
from outboxd.sink.provider import Provider, Reply

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def provider(clock) -> Provider:
    return Provider(SinkOptions(rate_limit=None), clock=clock)


def call(provider: Provider, method: str, path: str, body: object = None, **query: str) -> Reply:
    raw = b"" if body is None else json.dumps(body).encode()
    return provider.read(method, path, HEADERS, query=query, body=raw)


def get(provider: Provider, path: str = "/emails", **query: str) -> dict:
    return json.loads(call(provider, "GET", path, **query).body)


def send(provider: Provider, key: str = "k", **fields: object) -> str:
    return json.loads(ask(provider, payload(**fields), key=key).body)["id"]


def later(clock, **after: float) -> str:
    return (datetime.fromtimestamp(clock.now, UTC) + timedelta(**after)).isoformat(timespec="milliseconds")


def test_an_email_is_read_back_whole(provider):
    tags = [{"name": "order", "value": "7"}]
    id_ = send(provider, cc="c@d.co", tags=tags)
    assert get(provider, f"/emails/{id_}") == {
        "object": "email", "id": id_, "message_id": f"<{id_}@outboxd.invalid>", "to": ["ada@example.org"],
        "from": "Shop <hi@shop.example>", "created_at": "2027-01-15 08:00:00.000000+00", "subject": "Hello",
        "bcc": [], "cc": ["c@d.co"], "reply_to": [], "last_event": "delivered", "scheduled_at": None,
        "html": "<p>Hi</p>", "text": None, "tags": tags,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", f"/emails/{NOBODY}", (404, "not_found")),
        ("GET", "/emails/nonsense", (422, "invalid_parameter")),
        ("POST", f"/emails/{NOBODY}/cancel", (404, "not_found")),
        ("POST", "/emails/nonsense/cancel", (422, "invalid_parameter")),
        ("PATCH", f"/emails/{NOBODY}", (404, "not_found")),
        ("GET", "/emails/batch", (405, "method_not_allowed")),
        ("DELETE", "/emails", (405, "method_not_allowed")),
        ("GET", f"/emails/{NOBODY}/nothing", (404, "not_found")),
    ],
)
def test_what_is_not_there_is_named(provider, method, path, expected):
    assert error(call(provider, method, path)) == expected


def test_a_list_is_newest_first_and_pages_in_both_directions(provider):
    items = [payload(to=f"u{n}@example.org") for n in range(45)]
    sent = [one["id"] for one in json.loads(ask_batch(provider, items).body)["data"]][::-1]
    first = get(provider)
    assert [one["id"] for one in first["data"]] == sent[:20]
    assert first["has_more"]
    second = get(provider, after=sent[19])
    assert [one["id"] for one in second["data"]] == sent[20:40]
    last = get(provider, after=sent[39])
    assert ([one["id"] for one in last["data"]], last["has_more"]) == (sent[40:], False)
    back = get(provider, before=sent[40], limit="10")
    assert ([one["id"] for one in back["data"]], back["has_more"]) == (sent[30:40], True)
    assert not {"html", "text", "tags"} & set(first["data"][0])


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "x"},
        {"after": NOBODY, "before": NOBODY},
        {"after": NOBODY},
        {"after": "nonsense"},
    ],
)
def test_a_page_that_is_none_is_refused(provider, query):
    send(provider)
    assert call(provider, "GET", "/emails", **query).status == 422


def test_a_scheduled_email_can_be_moved_and_canceled_until_it_is_due(provider, clock):
    first = send(provider, "one", scheduled_at=later(clock, hours=1))
    second = send(provider, "two", scheduled_at="in 60 minutes")
    assert get(provider, f"/emails/{first}")["last_event"] == "scheduled"
    assert get(provider, f"/emails/{second}")["scheduled_at"] == "2027-01-15 09:00:00.000000+00"
    moved = call(provider, "PATCH", f"/emails/{first}", {"scheduled_at": later(clock, hours=2)})
    assert json.loads(moved.body) == {"object": "email", "id": first}
    clock.now += 3700
    assert [get(provider, f"/emails/{one}")["last_event"] for one in (first, second)] == [
        "scheduled",
        "delivered",
    ]
    assert json.loads(call(provider, "POST", f"/emails/{first}/cancel").body) == {
        "object": "email",
        "id": first,
    }
    assert get(provider, f"/emails/{first}")["last_event"] == "canceled"
    for one in (first, second):
        assert error(call(provider, "POST", f"/emails/{one}/cancel")) == (422, "validation_error")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, (400, "validation_error")),
        ({}, (422, "missing_required_field")),
        ({"scheduled_at": "nonsense"}, (422, "validation_error")),
        ({"scheduled_at": "in 31 days"}, (422, "validation_error")),
        ({"scheduled_at": "2027-01-15T09:00:00.123456+00:00"}, (422, "validation_error")),
    ],
)
def test_a_change_that_is_none_is_refused(provider, change, expected):
    id_ = send(provider, scheduled_at="in 1 hour")
    assert error(call(provider, "PATCH", f"/emails/{id_}", change)) == expected


@pytest.mark.parametrize("name", ["bounced", "complained", "suppressed"])
def test_the_providers_test_addresses_end_as_they_say(provider, name):
    id_ = send(provider, to=f"{name}+7@resend.dev")
    assert get(provider, f"/emails/{id_}")["last_event"] == name


def test_a_read_is_in_the_ledger_and_counts_as_a_request(clock):
    provider = Provider(SinkOptions(rate_limit=2), clock=clock)
    replies = [call(provider, "GET", "/emails") for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [entry.verdict for entry in provider.entries] == ["read", "read", "limited"]
    assert "x-resend-monthly-quota" not in replies[0].headers


@pytest.mark.parametrize(
    ("mode", "sending", "reading"),
    [
        ("full", 200, 200),
        ("sending", 200, (401, "restricted_api_key")),
        ("restricted", (401, "restricted_api_key"), (401, "restricted_api_key")),
        ("revoked", (401, "validation_error"), (401, "validation_error")),
        ("revoked-400", (400, "validation_error"), (400, "validation_error")),
        ("inactive", (403, "restricted_api_key"), (403, "restricted_api_key")),
        ("suspended", (403, "suspended_api_key"), (403, "suspended_api_key")),
    ],
)
def test_a_key_may_do_what_its_mode_says(provider, mode, sending, reading):
    provider.control({"key_mode": mode})
    for reply, expected in (
        (ask(provider, payload()), sending),
        (call(provider, "GET", "/emails"), reading),
    ):
        assert expected == (reply.status if reply.status == 200 else error(reply))


def test_one_key_is_revoked_while_another_works(provider):
    provider.control({"key_modes": {"re_old": "revoked"}})
    assert ask(provider, payload(), authorization="Bearer re_old").status == 401
    assert ask(provider, payload(), authorization="Bearer re_new").status == 200


def test_an_unknown_mode_is_refused_by_name(provider):
    with pytest.raises(ValueError, match="unknown key mode 'nonsense'"):
        provider.control({"key_mode": "nonsense"})


def test_the_edge_blocks_without_json(provider):
    provider.control({"edge_block": True})
    for reply in (ask(provider, payload()), call(provider, "GET", "/emails")):
        assert (reply.status, reply.body) == (403, b"error code: 1010")
        assert reply.content_type.startswith("text/plain")
    assert [entry.status for entry in provider.entries] == [403, 403]


def test_the_daily_quota_comes_back_at_midnight_utc_of_the_sinks_clock(clock):
    provider = Provider(SinkOptions(daily_quota=1), clock=clock)  # it is 08:00 UTC
    assert ask(provider, payload(), key="one").status == 200
    for hours, status in ((0, 429), (15.99, 429), (16, 200)):
        provider.control({"clock_offset": hours * 3600})
        assert ask(provider, payload(), key=f"after {hours}").status == status


def test_the_rate_limit_changes_while_it_runs(provider, clock):
    for limit in (10, 2, 10):
        provider.control({"rate_limit": limit})
        clock.now += 1
        replies = [ask(provider, payload(), key=f"{limit}-{clock.now}-{n}") for n in range(limit + 1)]
        assert [reply.status for reply in replies] == [200] * limit + [429]
        assert replies[0].headers["ratelimit-limit"] == str(limit)
