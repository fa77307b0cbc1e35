"""The batch endpoint: all or nothing or sorted, one key over the array, one request and many emails."""

import json
import statistics
import time

import httpx
import pytest
from asking import HEADERS, ask, ask_batch, error
from factories import payload
from waiting import until

from outboxd.sink.options import SinkOptions, parse_fault
from outboxd.sink.provider import BATCH, Provider

PER_ITEM = 40e-6  # seconds of CPU that one email of a batch may cost


def batch(count: int, **fields: object) -> list[dict]:
    return [payload(to=f"u{n}@example.org", tags=[uid(n)], **fields) for n in range(count)]


def uid(n: int) -> dict[str, str]:
    return {"name": "outboxd_uid", "value": f"uid-{n}"}


def ids(reply) -> list[str]:
    return [item["id"] for item in json.loads(reply.body)["data"]]


@pytest.fixture
def provider(clock) -> Provider:
    return Provider(SinkOptions(rate_limit=None), clock=clock)


def test_a_batch_is_accepted_in_its_order_and_each_item_is_in_the_inbox(provider):
    reply = ask_batch(provider, batch(100))
    assert set(json.loads(reply.body)) == {"data"}
    assert [provider.inbox[id_].email["to"] for id_ in ids(reply)] == [
        f"u{n}@example.org" for n in range(100)
    ]


def test_the_ledger_has_one_entry_for_a_batch_and_counts_its_emails(provider):
    reply = ask_batch(provider, batch(3))
    (entry,) = provider.entries
    assert (entry.call, entry.items, entry.accepted, entry.verdict) == (BATCH, 3, 3, "new")
    assert (list(entry.uids), list(entry.provider_ids)) == (["uid-0", "uid-1", "uid-2"], ids(reply))
    assert (provider.summary()["requests"], provider.summary()["accepted"]) == (1, 3)


def test_one_bad_item_rejects_a_strict_batch(provider):
    items = batch(3)
    del items[1]["to"]
    assert error(ask_batch(provider, items)) == (422, "missing_required_field")
    assert provider.summary()["accepted"] == 0
    assert not provider.inbox


def test_a_permissive_batch_accepts_the_good_items_and_names_the_bad_ones(provider):
    items = batch(4)
    del items[1]["to"]
    items[2]["to"] = "nonsense"
    reply = ask_batch(provider, items, mode="permissive")
    assert reply.status == 200
    assert [provider.inbox[id_].email["to"] for id_ in ids(reply)] == ["u0@example.org", "u3@example.org"]
    errors = json.loads(reply.body)["errors"]
    assert [item["index"] for item in errors] == [1, 2]
    assert errors[0]["message"] == "Missing `to` field."
    assert provider.summary()["accepted"] == 2


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "The `request.body` field must be an `array`."),
        ([], "The batch must hold between 1 and 100 emails."),
        (batch(101), "The batch must hold between 1 and 100 emails."),
        (
            batch(1, attachments=[{"filename": "a", "content": "aGk="}]),
            "The `attachments` field is not supported in batch requests.",
        ),
        (["text"], "The request body must be an object."),
    ],
)
def test_a_batch_that_is_none_is_refused(provider, body, expected):
    reply = ask_batch(provider, body)
    assert error(reply) == (422, "validation_error")
    assert json.loads(reply.body)["message"] == expected


def test_an_unknown_mode_is_refused(provider):
    assert error(ask_batch(provider, batch(1), mode="lenient")) == (422, "validation_error")


def test_the_key_of_a_batch_replays_the_same_ids(provider):
    first, second = ask_batch(provider, batch(5)), ask_batch(provider, batch(5))
    assert first.body == second.body
    assert [kept.asks for kept in provider.inbox.values()] == [2] * 5
    assert provider.summary() | {"verdicts": None} == {
        "requests": 2, "verdicts": None, "accepted": 5, "uids": 5, "duplicates": 0, "keys_with_two_bodies": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change", [lambda items: items[:-1], lambda items: items[::-1]], ids=["fewer", "reordered"]
)
def test_the_key_of_a_batch_covers_its_members_and_their_order(provider, change):
    ask_batch(provider, batch(5))
    assert error(ask_batch(provider, change(batch(5)))) == (409, "invalid_idempotent_request")
    assert provider.summary()["keys_with_two_bodies"] == 1


def test_the_key_of_a_batch_in_flight_is_concurrent(provider):
    body = json.dumps(batch(2)).encode()
    provider.ask(HEADERS | {"idempotency-key": "k"}, body, call=BATCH)
    reply = provider.ask(HEADERS | {"idempotency-key": "k"}, body, call=BATCH)
    assert error(reply) == (409, "concurrent_idempotent_requests")


def test_an_email_accepted_in_a_batch_and_alone_is_a_duplicate(provider):
    ask_batch(provider, batch(3))
    ask(provider, batch(3)[1], key="alone")
    assert provider.summary()["duplicates"] == 1


def test_a_batch_is_one_request_of_the_rate_limit(clock):
    provider = Provider(SinkOptions(rate_limit=2), clock=clock)
    replies = [ask_batch(provider, batch(100), key=f"k{n}") for n in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]


def test_every_recipient_of_a_batch_counts_against_the_quota(clock):
    provider = Provider(SinkOptions(daily_quota=10), clock=clock)
    three = batch(3, cc="c@d.co", bcc=["e@f.co"])
    assert ask_batch(provider, three).headers["x-resend-daily-quota"] == "9"
    assert error(ask_batch(provider, batch(2), key="two")) == (429, "daily_quota_exceeded")
    assert ask_batch(provider, batch(1), key="one").status == 200


def test_an_unverified_domain_rejects_the_batch(clock):
    provider = Provider(SinkOptions(verified_domains=frozenset({"shop.example"})), clock=clock)
    items = [payload(), payload(**{"from": "a@stranger.example"})]
    reply = ask_batch(provider, items)
    assert error(reply) == (403, "validation_error")
    assert "stranger.example" in json.loads(reply.body)["message"]


def test_a_faulty_recipient_is_a_fault_of_the_whole_batch_and_counts_by_email(provider):
    items = batch(3)
    items[1]["to"] = "fault+422.2@example.org"
    assert error(ask_batch(provider, items, key="all")) == (422, "validation_error")
    assert error(ask_batch(provider, items[1:], key="half")) == (422, "validation_error")
    assert ask(provider, items[1], key="alone").status == 200
    assert [entry.fault for entry in provider.entries] == ["422", "422", ""]


def test_a_fault_by_option_meets_batches(clock):
    provider = Provider(SinkOptions(rate_limit=None, faults=(parse_fault("503"),)), clock=clock)
    assert error(ask_batch(provider, batch(1))) == (503, "service_unavailable")
    provider.control({"faults": ()})
    assert ask_batch(provider, batch(1)).status == 200


@pytest.mark.parametrize("kind", ["accept-reset", "truncated", "empty-200", "fewer-ids"])
def test_a_batch_whose_answer_is_lost_was_accepted_and_replays(served, kind):
    items = [payload(to=f"fault+{kind}.1@example.org"), payload()]

    def post() -> int:
        headers = HEADERS | {"idempotency-key": "k"}
        try:
            answer = httpx.post(
                f"{served.url}/emails/batch", json=items, headers=headers, timeout=2, trust_env=False
            )
            return len(answer.json()["data"])
        except (httpx.HTTPError, ValueError):
            return 0

    assert post() < 2
    until(lambda: post() == 2, what="the replay")
    assert served.provider.summary()["accepted"] == 2


def test_the_inbox_keeps_the_newest_and_the_counters_count_all(clock):
    provider = Provider(SinkOptions(rate_limit=None, keep=150), clock=clock)
    for n in range(3):
        last = ask_batch(provider, batch(100), key=f"k{n}")
    assert len(provider.inbox) == 150
    assert set(ids(last)) < set(provider.inbox)
    assert sum(provider.accepted_by_uid.values()) == 300


def test_an_email_of_a_batch_costs_little(clock):
    provider = Provider(SinkOptions(rate_limit=None), clock=clock)
    bodies = [json.dumps([one | {"subject": f"{n}"} for one in batch(100)]).encode() for n in range(20)]
    spent = []
    for n, body in enumerate(bodies):
        began = time.thread_time()
        assert ask_batch(provider, body, key=f"k{n}").status == 200
        spent.append(time.thread_time() - began)
    cost = statistics.median(spent) / 100  # the garbage of a whole suite is collected in one or two of them
    print(f"{cost * 1e6:.1f} µs an email")
    assert cost < PER_ITEM
