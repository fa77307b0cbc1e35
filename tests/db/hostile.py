"""Payloads that must never become a request: (name, payload as JSON text, SQLSTATE, the field that the message names)."""

import json
from typing import Any

from factories import payload


def p(**fields: Any) -> str:
    return json.dumps(payload(**fields))


def attachment(**fields: Any) -> str:
    item = {"filename": "a.txt", "content": "aGk="} | fields
    return p(attachments=[{name: value for name, value in item.items() if value is not None}])


BAD, LATER = "22023", "0A000"
MANY = [f"u{n}@example.org" for n in range(51)]
HOSTILE = [
    ("not an object", "[]", BAD, "payload"),
    ("a string", '"hello"', BAD, "payload"),
    ("null", "null", BAD, "payload"),
    ("empty", "{}", BAD, "from"),
    ("unknown key", p(replyTo="a@b.co"), BAD, "replyTo"),
    ("misspelt body", p(html=None, body="hi"), BAD, "body"),
    ("null value", json.dumps(payload() | {"cc": None}), BAD, "cc"),
    ("no from", p(**{"from": None}), BAD, "from"),
    ("no to", p(to=None), BAD, "to"),
    ("no subject", p(subject=None), BAD, "subject"),
    ("empty to list", p(to=[]), BAD, "to"),
    ("51 recipients", p(to=MANY), BAD, "to"),
    ("51 recipients together", p(to=MANY[:26], cc=MANY[26:]), BAD, "cc"),
    ("number as to", p(to=5), BAD, "to"),
    ("number in to", p(to=["a@b.co", 5]), BAD, "to[1]"),
    ("object in cc", p(cc=[{"email": "a@b.co"}]), BAD, "cc[0]"),
    ("two froms", p(**{"from": ["a@b.co", "c@d.co"]}), BAD, "from"),
    ("no at", p(to="ada"), BAD, "to"),
    ("two ats", p(to="a@b@c.co"), BAD, "to"),
    ("no domain", p(to="ada@"), BAD, "to"),
    ("no local part", p(to="@example.org"), BAD, "to"),
    ("one label", p(to="ada@localhost"), BAD, "to"),
    ("numeric top level", p(to="ada@127.0.0.1"), BAD, "to"),
    ("address literal", p(to="ada@[127.0.0.1]"), BAD, "to"),
    ("double dot", p(to="a..b@example.org"), BAD, "to"),
    ("leading dot", p(to=".a@example.org"), BAD, "to"),
    ("quoted local", p(to='"a@evil.example x"@ok.example'), BAD, "to"),
    ("comment", p(to="a(comment)@example.org"), BAD, "to"),
    ("group", p(to="team: a@example.org;"), BAD, "to"),
    ("list in one string", p(to="a@example.org, b@example.org"), BAD, "to"),
    ("unquoted comma in a name", p(to="Dupont, Jean <a@example.org>"), BAD, "to"),
    ("address in a name", p(to="boss@bank.example <a@evil.example>"), BAD, "to"),
    ("CRLF in to", p(to="a@example.org\r\nBcc: x@y.co"), BAD, "to"),
    ("LF in a name", p(to="Ada\nBcc: x <a@example.org>"), BAD, "to"),
    ("CRLF in from", p(**{"from": "Shop\r\nX: y <hi@shop.example>"}), BAD, "from"),
    ("CRLF in reply_to", p(reply_to="a@b.co\r\n"), BAD, "reply_to"),
    ("zero width in an address", p(to="a\u200bb@example.org"), BAD, "to"),
    ("non-ASCII local part", p(to="jörg@example.org"), BAD, "to"),
    ("long local part", p(to="a" * 65 + "@example.org"), BAD, "to"),
    ("long label", p(to="a@" + "b" * 64 + ".org"), BAD, "to"),
    ("long domain", p(to="a@" + "b." * 130 + "org"), BAD, "to"),
    ("hyphen first", p(to="a@-b.org"), BAD, "to"),
    ("trailing dot", p(to="a@example.org."), BAD, "to"),
    ("CRLF in subject", p(subject="Hi\r\nBcc: x@y.co"), BAD, "subject"),
    ("LF in subject", p(subject="Hi\nthere"), BAD, "subject"),
    ("C1 in subject", p(subject="Hi\u0085there"), BAD, "subject"),
    ("line separator in subject", p(subject="Hi\u2028there"), BAD, "subject"),
    ("long subject", p(subject="x" * 999), BAD, "subject"),
    ("empty subject", p(subject=""), BAD, "subject"),
    ("number as subject", p(subject=5), BAD, "subject"),
    ("no body", p(html=None), BAD, "html"),
    ("empty bodies", p(html="", text=""), BAD, "html"),
    ("list as html", p(html=["x"]), BAD, "html"),
    ("headers as list", p(headers=["X: y"]), BAD, "headers"),
    ("Bcc by header", p(headers={"Bcc": "x@y.co"}), BAD, "headers"),
    ("bCC by header", p(headers={"bCC": "x@y.co"}), BAD, "headers"),
    ("From by header", p(headers={"From": "x@y.co"}), BAD, "headers"),
    ("Sender by header", p(headers={"Sender": "x@y.co"}), BAD, "headers"),
    ("Return-Path by header", p(headers={"Return-Path": "x@y.co"}), BAD, "headers"),
    ("Content-Type by header", p(headers={"Content-Type": "text/plain"}), BAD, "headers"),
    ("DKIM-Signature by header", p(headers={"DKIM-Signature": "v=1"}), BAD, "headers"),
    ("idempotency key by header", p(headers={"Resend-Idempotency-Key": "x"}), BAD, "headers"),
    ("colon in a header's name", p(headers={"X-A: b\r\nBcc": "x"}), BAD, "headers"),
    ("space in a header's name", p(headers={"X A": "x"}), BAD, "headers"),
    ("CRLF in a header", p(headers={"X-A": "b\r\nBcc: x@y.co"}), BAD, "headers"),
    ("number as a header", p(headers={"X-A": 5}), BAD, "headers"),
    ("a header twice", p(headers={"X-A": "1", "x-a": "2"}), BAD, "headers"),
    ("attachment by file path", attachment(content=None, path="file:///etc/passwd"), BAD, "attachments[0]"),
    (
        "attachment by metadata URL",
        attachment(content=None, path="http://169.254.169.254/"),
        BAD,
        "attachments[0]",
    ),
    ("attachment without content", attachment(content=None), BAD, "attachments[0]"),
    ("attachment of bad base64", attachment(content="!!!"), BAD, "attachments[0]"),
    ("attachment of numbers", attachment(content=[1, 2]), BAD, "attachments[0]"),
    ("attachment without a name", attachment(filename=None), BAD, "attachments[0]"),
    ("CRLF in a file name", attachment(filename="a\r\nb.txt"), BAD, "attachments[0]"),
    ("path in a file name", attachment(filename="../../etc/passwd"), BAD, "attachments[0]"),
    ("CRLF in a content type", attachment(content_type="text/plain\r\nX: y"), BAD, "attachments[0]"),
    ("tag with a space", p(tags=[{"name": "a b", "value": "c"}]), BAD, "tags[0]"),
    ("our own tag", p(tags=[{"name": "outboxd_uid", "value": "c"}]), BAD, "tags[0]"),
    ("75 tags", p(tags=[{"name": f"t{n}", "value": "x"} for n in range(75)]), BAD, "tags"),
    ("long tag", p(tags=[{"name": "a", "value": "x" * 257}]), BAD, "tags[0]"),
    ("provider time in words", p(scheduled_at="in an hour"), BAD, "scheduled_at"),
    ("provider time at infinity", p(scheduled_at="infinity"), BAD, "scheduled_at"),
    ("provider time in a year", p(scheduled_at="2099-01-01T00:00:00Z"), BAD, "scheduled_at"),
    ("template by name", p(html=None, template="welcome"), LATER, "template"),
    ("template beside html", p(template={"id": "x"}), BAD, "template"),
    ("huge number", p(html=None, template={"id": "x", "variables": {"A": 10**300}}), BAD, "template"),
    ("nested variables", p(html=None, template={"id": "x", "variables": {"A": {"B": 1}}}), BAD, "template"),
    ("topic that is none", p(topic_id="x"), BAD, "topic_id"),
    ("more than 40 MB", p(html="x" * 42_000_000), BAD, "payload"),
]

# Refused before a trigger can see a row: JSON itself cannot be stored, and Postgres says where it stands.
UNREADABLE = [
    ("NUL", '{"subject": "a\\u0000b"}', "22P05"),
    ("lone surrogate", '{"subject": "a\\ud800b"}', "22P02"),
    ("NaN", '{"to": NaN}', "22P02"),
    ("truncated", '{"to": "a', "22P02"),
    ("a million brackets", "[" * 1_000_000, "54001"),
]

# Strange, and legal.
LEGAL = [
    ("accents in a name", p(to="Société Générale <a@example.org>")),
    ("quoted comma", p(to='"Dupont, Jean" <a@example.org>')),
    ("apostrophe", p(to="o'neil@example.org")),
    ("plus", p(to="ada+tag@example.org")),
    ("international domain", p(to="ada@bücher.example")),
    ("emoji subject", p(subject="Hello 👋 ¡olé!")),
    ("bidi in html", p(html="<p>\u202eevil\u202c</p>")),
    ("ANSI in text", p(text="\x1b[31mred\x1b[0m")),
    ("template syntax", p(subject="{{7*7}} ${x} %s", html="{% for %}")),
    ("script in html", p(html="<script>alert(1)</script>")),
    ("50 recipients", p(to=MANY[:50])),
    ("unsubscribe headers", p(headers={"List-Unsubscribe": "<https://x.example/u>", "X-Entity-Ref-ID": "1"})),
    ("inline image", attachment(content_id="logo", content_type="image/png", filename="логотип.png")),
    (
        "provider's template",
        p(html=None, subject=None, template={"id": "x", "variables": {"A": 1.5, "B": "b"}}),
    ),
    ("empty text beside html", p(text="")),
]
