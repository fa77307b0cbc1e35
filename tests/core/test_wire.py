"""The bytes under a key: golden, deterministic, and never harmful."""

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.core.email import Frozen
from outboxd.core.wire import LATEST, Unsendable, WireError, key, recipients, render

UID = UUID("018f3c2e-1a2b-7c3d-8e4f-5a6b7c8d9e0f")
FROZEN = Frozen(serialiser=1, tag="outboxd_uid", account="default", api_url="https://api.resend.com")
OWN_TAG = b'{"name":"outboxd_uid","value":"018f3c2e-1a2b-7c3d-8e4f-5a6b7c8d9e0f"}'


def rendered(**fields: object) -> dict:
    email = {
        "from": "shop@harbor.example",
        "to": "ada@reader.example",
        "subject": "Hi",
        "text": "Hi",
    } | fields
    return json.loads(render(json.dumps(email), UID, FROZEN))


GOLDEN = {
    "plain": (
        '{"to": "ada@reader.example", "from": "shop@harbor.example", "text": "Hi"}',
        b'{"to":"ada@reader.example","from":"shop@harbor.example","text":"Hi","tags":[' + OWN_TAG + b"]}",
    ),
    "tags keep their place": (
        '{"tags": [{"name": "kind", "value": "order"}], "to": ["ada@reader.example"]}',
        b'{"tags":[{"name":"kind","value":"order"},' + OWN_TAG + b'],"to":["ada@reader.example"]}',
    ),
    "null tags": (
        '{"tags": null, "to": ["ada@reader.example"]}',
        b'{"tags":[' + OWN_TAG + b'],"to":["ada@reader.example"]}',
    ),
    "letters of all kinds": (
        '{"to":"Zoë <zoe@reader.example>","subject":"Déjà vu \\u2013 “你好” 😀 \\"q\\" <&> \\t"}',
        '{"to":"Zoë <zoe@reader.example>","subject":"Déjà vu – “你好” 😀 \\"q\\" <&> \\t","tags":['.encode()
        + OWN_TAG
        + b"]}",
    ),
    "international domains": (
        (
            '{"to":["Jörg Über <J.U@Exämple.de>","<b@exämple.de> "],"cc":"c@x.example","bcc":[],'
            '"reply_to":"r@faß.de","from":"Société <a@例え.テスト>"}'
        ),
        '{"to":["Jörg Über <J.U@xn--exmple-cua.de>","<b@xn--exmple-cua.de> "],"cc":"c@x.example","bcc":[],'
        '"reply_to":"r@xn--fa-hia.de","from":"Société <a@xn--r8jz45g.xn--zckzah>","tags":['.encode()
        + OWN_TAG
        + b"]}",
    ),
    "numbers and nesting": (
        '{"to":"a@x.example","template":{"id":"welcome","variables":{"n":9007199254740991,"p":1.50,"b":true}},"cc":null}',
        b'{"to":"a@x.example","template":{"id":"welcome","variables":{"n":9007199254740991,"p":1.5,"b":true}},"cc":null,'
        b'"tags":[' + OWN_TAG + b"]}",
    ),
}


@pytest.mark.parametrize(("payload", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_serialiser_1_writes_these_bytes(payload, expected):
    assert render(payload, UID, FROZEN) == expected


def test_bytes_are_the_same_in_another_process():
    payload, expected = GOLDEN["international domains"]
    program = (
        "import sys, uuid; from outboxd.core import email, wire;"
        "frozen = email.Frozen(1, 'outboxd_uid', 'other', 'http://elsewhere');"
        f"sys.stdout.buffer.write(wire.render({payload!a}, uuid.UUID({str(UID)!r}), frozen))"
    )
    environment = {"PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONUTF8": "0"}
    output = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert output.stdout == expected


def test_the_serialiser_of_the_row_is_used_not_the_latest():
    assert LATEST >= 1
    with pytest.raises(WireError, match="serialiser 999 is unknown"):
        render(GOLDEN["plain"][0], UID, replace(FROZEN, serialiser=999))


def test_the_tag_of_the_row_is_used():
    body = render(GOLDEN["plain"][0], UID, replace(FROZEN, tag="older_tag"))
    assert json.loads(body)["tags"] == [{"name": "older_tag", "value": str(UID)}]


def test_the_key_names_uid_and_generation():
    assert key(UID, 1) == "obx1.018f3c2e-1a2b-7c3d-8e4f-5a6b7c8d9e0f.1"
    assert key(UID, 2) != key(UID, 1)


def test_recipients_are_normalised_and_in_order():
    payload = json.dumps({"bcc": "Z@X.example", "cc": None, "to": ["Zoë <Zoe@Exämple.de>", "b@y.example"]})
    assert recipients(payload) == ("zoe@xn--exmple-cua.de", "b@y.example", "z@x.example")


def test_fifty_recipients_are_enough():
    assert len(rendered(to=[f"a{n}@x.example" for n in range(50)])["to"]) == 50


HOSTILE = [
    ("from", {"from": "a@x.example\r\nBcc: b@y.example"}),
    ("from", {"from": ["a@x.example"]}),
    ("from", {"from": "Jean <a@x.example>, b@y.example"}),
    ("to", {"to": []}),
    ("to", {"to": None}),
    ("to", {"to": "nobody"}),
    ("to", {"to": 7}),
    ("to", {"to": ["a@x.example", 7]}),
    ("to", {"to": ["a@x.example", None]}),
    ("to", {"to": "a@x.example\n"}),
    ("to", {"to": "a@x.example,b@y.example"}),
    ("to", {"to": ["ü@exämple.de"]}),
    ("to", {"to": [f"a{n}@x.example" for n in range(51)]}),
    ("to", {"to": [f"a{n}@x.example" for n in range(49)], "cc": "b@y.example", "bcc": ["c@y.example"]}),
    ("cc", {"cc": '"a@evil.example x"@ok.example'}),
    ("bcc", {"bcc": "a@x.example\0"}),
    ("reply_to", {"reply_to": ["a@x.example\rX: y"]}),
    ("subject", {"subject": "Hi\r\nBcc: b@y.example"}),
    ("subject", {"subject": "Hi\nthere"}),
    ("subject", {"subject": "Hi\0"}),
    ("subject", {"subject": ["Hi"]}),
    ("headers", {"headers": ["X: y"]}),
    ("headers", {"headers": {"X-A\r\nBcc": "b@y.example"}}),
    ("headers", {"headers": {"X A": "b"}}),
    ("headers", {"headers": {"X:A": "b"}}),
    ("headers", {"headers": {"": "b"}}),
    ("headers.X-A", {"headers": {"X-A": "b\r\nBcc: c@y.example"}}),
    ("headers.X-A", {"headers": {"X-A": "\0"}}),
    ("headers.X-A", {"headers": {"X-A": 7}}),
    ("attachments", {"attachments": "x"}),
    ("attachments[0]", {"attachments": ["x"]}),
    ("attachments[1].filename", {"attachments": [{}, {"filename": 'a.pdf"\r\nX: y'}]}),
    ("attachments[0].filename", {"attachments": [{"filename": {"a": "b"}}]}),
    ("attachments[0].content_type", {"attachments": [{"content_type": "text/plain\nX: y"}]}),
    ("attachments[0].content_id", {"attachments": [{"content_id": "a\rb"}]}),
    ("tags", {"tags": {"name": "a", "value": "b"}}),
    ("tags", {"tags": [{"name": "outboxd_uid", "value": "forged"}]}),
    ("payload", {"text": "\ud800"}),
    ("payload", {"text": float("nan")}),
    ("payload", {"text": float("inf")}),
]


@pytest.mark.parametrize(("field", "fields"), HOSTILE, ids=[str(row[1])[:60] for row in HOSTILE])
def test_what_must_not_reach_the_wire_is_refused_by_field(field, fields):
    with pytest.raises(Unsendable) as refusal:
        rendered(**fields)
    assert refusal.value.field == field
    assert str(refusal.value).startswith(f"{field}: ")


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{",
        "null",
        "[]",
        '"x"',
        "7",
        "[" * 100_000,
        '{"to":"a@x.example","n":1e400}',
        '{"n":' + "9" * 5_000 + "}",
    ],
    ids=lambda payload: payload[:20],
)
def test_what_is_no_object_is_refused(payload):
    with pytest.raises(Unsendable):
        render(payload, UID, FROZEN)


def test_recipients_that_change_on_the_way_are_refused(monkeypatch):
    monkeypatch.setattr("outboxd.core.wire._with_domain", lambda _text, _domain: "eve@evil.example")
    with pytest.raises(Unsendable, match="not be those of the row"):
        rendered(to="a@exämple.de")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
hosts = st.sampled_from(["x.example", "Y.example", "exämple.de", "faß.de"])
addresses = st.builds(
    lambda name, local, host: f"{name} <{local}@{host}>" if name else f"{local}@{host}",
    st.sampled_from(["", "Ada", "Zoë Ü.", '"Dupont, Jean"']),
    st.from_regex(r"[A-Za-z0-9+_-]{1,10}", fullmatch=True),
    hosts,
)
emails = st.fixed_dictionaries(
    {"to": addresses | st.lists(addresses, min_size=1, max_size=5), "html": st.text()},
    optional={
        "from": addresses,
        "cc": st.lists(addresses, max_size=3) | st.none(),
        "bcc": addresses,
        "reply_to": addresses,
        "tags": st.lists(st.fixed_dictionaries({"name": st.just("kind"), "value": st.text()}), max_size=3),
        "template": json_values,
        "x": json_values,
    },
)
WRITTEN_ANEW = {"from", "to", "cc", "bcc", "reply_to", "tags"}


@given(emails, st.uuids())
def test_whatever_is_no_address_or_tag_comes_through_unchanged(email, uid):
    sent = json.loads(render(json.dumps(email), uid, FROZEN))
    assert list(sent) == list(dict.fromkeys([*email, "tags"]))
    assert {name: sent[name] for name in email if name not in WRITTEN_ANEW} == {
        name: email[name] for name in email if name not in WRITTEN_ANEW
    }


@given(emails, st.uuids())
def test_our_tag_is_appended_exactly_once(email, uid):
    sent = json.loads(render(json.dumps(email), uid, FROZEN))
    assert sent["tags"] == [*email.get("tags", []), {"name": "outboxd_uid", "value": str(uid)}]


@given(emails, st.uuids())
def test_the_same_arguments_give_the_same_bytes(email, uid):
    once = render(json.dumps(email), uid, FROZEN)
    assert once == render(json.dumps(email, ensure_ascii=False, indent=1), uid, FROZEN)
    assert once == render(
        json.dumps(email), uid, replace(FROZEN, account="other", api_url="http://elsewhere")
    )


@given(emails, st.uuids())
def test_the_wire_has_the_recipients_of_the_row_and_no_international_domain(email, uid):
    sent = render(json.dumps(email), uid, FROZEN).decode()
    assert recipients(sent) == recipients(json.dumps(email))
    for field in ("to", "cc", "bcc"):
        for text in [email.get(field)] if isinstance(email.get(field), str) else email.get(field) or []:
            assert "xn--" in str(json.loads(sent)[field]) or "ä" not in text.rpartition("@")[2]


@given(st.text() | json_values.map(json.dumps))
def test_any_text_is_rendered_or_refused(payload):
    with contextlib.suppress(Unsendable):
        assert OWN_TAG in render(payload, UID, FROZEN)
