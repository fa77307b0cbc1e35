"""The official Node client, unchanged, against the local Resend."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from factories import payload
from needs import needs

from outboxd.sink.options import SinkOptions
from outboxd.sink.server import Running, running_sink

HERE = Path(__file__).parent / "node"
NOBODY = "00000000-0000-4000-8000-000000000000"
Node = Callable[..., list[dict]]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, installed as its lock file says, beside the program that calls it."""
    npm = needs("npm")
    folder = tmp_path_factory.mktemp("node")
    for file in HERE.iterdir():
        shutil.copy(file, folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "driver.mjs"


@pytest.fixture
def sink() -> Iterator[Running]:
    with running_sink(SinkOptions(port=0, rate_limit=None)) as running:
        yield running


@pytest.fixture
def node(sink: Running, driver: Path) -> Node:
    """Makes calls such as `("emails.send", payload, options)` in one process; what each gave."""
    program = needs("node")

    def call(*calls: tuple, key: str = "re_test") -> list[dict]:
        environment = os.environ | {"RESEND_BASE_URL": sink.url, "RESEND_API_KEY": key}
        done = subprocess.run(
            [program, driver], input=json.dumps(calls), env=environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


def to(address: str) -> dict:
    return payload(to=address)


def named(result: dict) -> tuple[int | None, str]:
    assert result["data"] is None
    return result["error"]["statusCode"], result["error"]["name"]


def test_an_email_is_sent_read_and_listed(node):
    (sent,) = node(("emails.send", payload(text="Hi", replyTo="r@example.org")))
    read, listing = node(("emails.get", sent["data"]["id"]), ("emails.list", {"limit": 5}))
    assert (read["data"]["text"], read["data"]["reply_to"], read["data"]["last_event"]) == (
        "Hi",
        ["r@example.org"],
        "delivered",
    )
    assert [one["id"] for one in listing["data"]["data"]] == [sent["data"]["id"]]


def test_a_scheduled_email_is_moved_and_canceled(node):
    (sent,) = node(("emails.send", payload(scheduledAt="in 1 hour")))
    id_ = sent["data"]["id"]
    moved, canceled, read, again = node(
        ("emails.update", {"id": id_, "scheduledAt": "in 2 hours"}),
        ("emails.cancel", id_),
        ("emails.get", id_),
        ("emails.cancel", id_),
    )
    assert (moved["data"]["id"], canceled["data"]["id"]) == (id_, id_)
    assert read["data"]["last_event"] == "canceled"
    assert named(again) == (422, "validation_error")


def test_a_batch_is_strict_by_default_and_permissive_on_request(node, sink):
    good, strict, permissive = node(
        ("batch.send", [to("a@b.co"), to("c@d.co")]),
        ("batch.send", [to("nonsense"), to("c@d.co")]),
        ("batch.send", [to("nonsense"), to("c@d.co")], {"batchValidation": "permissive"}),
    )
    assert len(good["data"]["data"]) == 2
    assert named(strict) == (422, "validation_error")
    assert len(permissive["data"]["data"]) == 1
    assert [error["index"] for error in permissive["data"]["errors"]] == [0]
    assert sink.provider.summary()["accepted"] == 3


def test_a_key_replays_and_refuses_another_body(node, sink):
    first, again, other, batch, batch_again = node(
        ("emails.send", to("a@b.co"), {"idempotencyKey": "k"}),
        ("emails.send", to("a@b.co"), {"idempotencyKey": "k"}),
        ("emails.send", to("c@d.co"), {"idempotencyKey": "k"}),
        ("batch.send", [to("a@b.co"), to("c@d.co")], {"idempotencyKey": "b"}),
        ("batch.send", [to("a@b.co"), to("c@d.co")], {"idempotencyKey": "b"}),
    )
    assert first["data"] == again["data"]
    assert named(other) == (409, "invalid_idempotent_request")
    assert batch["data"] == batch_again["data"]
    assert sink.provider.summary()["accepted"] == 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"key_mode": "revoked"}, (401, "validation_error")),
        ({"key_mode": "revoked-400"}, (400, "validation_error")),
        ({"key_mode": "restricted"}, (401, "restricted_api_key")),
        ({"key_mode": "inactive"}, (403, "restricted_api_key")),
        ({"key_mode": "suspended"}, (403, "suspended_api_key")),
        ({"verified_domains": frozenset({"other.example"})}, (403, "validation_error")),
        ({"edge_block": True}, (403, "application_error")),
        ({"daily_quota": 0}, (429, "daily_quota_exceeded")),
        ({"monthly_quota": 0}, (429, "monthly_quota_exceeded")),
        ({"rate_limit": 0}, (429, "rate_limit_exceeded")),
    ],
)
def test_an_accounts_error_is_named(node, sink, changes, expected):
    sink.provider.control(changes)
    assert [named(one) for one in node(("emails.send", payload()), ("batch.send", [payload()]))] == [
        expected
    ] * 2


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("422", (422, "validation_error")),
        ("429", (429, "rate_limit_exceeded")),
        ("500", (500, "application_error")),
        ("503", (503, "service_unavailable")),
        ("html-502", (502, "application_error")),
        ("reset", (None, "application_error")),
        ("accept-reset", (None, "application_error")),
        ("truncated", (None, "application_error")),
        ("concurrent", (409, "concurrent_idempotent_requests")),
    ],
)
def test_a_fault_is_named_and_a_repetition_is_accepted_once(node, sink, fault, expected):
    email = to(f"fault+{fault}.1@example.org")
    single = ("emails.send", email, {"idempotencyKey": "single"})
    batch = ("batch.send", [email, payload()], {"idempotencyKey": "batch"})
    first, second, third, fourth = node(single, single, batch, batch)
    assert (named(first), named(third)) == (expected, expected)
    assert (second["error"], fourth["error"]) == (None, None)
    assert sink.provider.summary()["accepted"] == 3


def test_a_missing_field_and_a_missing_email_are_named_and_a_sending_key_may_not_read(node, sink):
    missing, nobody, nonsense = node(
        ("emails.send", payload(to=None)), ("emails.get", NOBODY), ("emails.get", "nonsense")
    )
    assert named(missing) == (422, "missing_required_field")
    assert named(nobody) == (404, "not_found")
    assert named(nonsense) == (422, "invalid_parameter")
    sink.provider.control({"key_mode": "sending"})
    sent, listing = node(("emails.send", payload()), ("emails.list",))
    assert sent["error"] is None
    assert named(listing) == (401, "restricted_api_key")
