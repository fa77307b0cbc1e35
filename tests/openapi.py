"""Requests and answers against OpenAPI documents: the sink's own, and Resend's where `RESEND_OPENAPI` names it."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from outboxd.sink.provider import BATCH, SINGLE, Provider, Reply

ROOT = Path(__file__).parents[1]
OURS = ROOT / "outboxd" / "sink" / "openapi.json"
BESIDE = ROOT.parent / "shared" / "reference" / "resend-openapi.yaml"


def theirs() -> list[str]:
    """The provider's document: named by RESEND_OPENAPI, or beside the checkout; else none."""
    named = os.environ.get("RESEND_OPENAPI")
    if named:
        return [named]  # a wrong name fails where it is read
    return [str(BESIDE)] if BESIDE.exists() else []


def documents() -> list[str]:
    return [str(OURS), *theirs()]


@dataclass(frozen=True)
class Exchange:
    """One request as it came, and what the sink answered."""

    call: str
    headers: Mapping[str, str]
    body: bytes
    reply: Reply


def record(provider: Provider) -> list[Exchange]:
    """Every exchange of this provider from now on."""
    seen: list[Exchange] = []
    ask, read = provider.ask, provider.read

    def heard_ask(headers: Mapping[str, str], body: bytes, *, call: str = "POST /emails") -> Reply:
        seen.append(Exchange(call, dict(headers), body, ask(headers, body, call=call)))
        return seen[-1].reply

    def heard_read(method: str, path: str, headers: Mapping[str, str], **rest: Any) -> Reply:
        parts = path.split("/")
        if len(parts) > 2:
            parts[2] = "{email_id}"
        reply = read(method, path, headers, **rest)
        seen.append(Exchange(f"{method} {'/'.join(parts)}", dict(headers), rest["body"], reply))
        return reply

    provider.ask, provider.read = heard_ask, heard_read  # type: ignore[method-assign]
    return seen


class Document:
    """One OpenAPI document."""

    def __init__(self, path: str) -> None:
        import yaml

        text = Path(path).read_text()
        self._validators: dict[str, Draft202012Validator] = {}
        self.ours = path == str(OURS)
        self.loaded: dict[str, Any] = (
            json.loads(text) if path.endswith(".json") else yaml.load(text, yaml.CSafeLoader)
        )

    def schema(self, name: str) -> dict[str, Any]:
        return self.loaded["components"]["schemas"][name]

    def errors_of(self, schema: dict[str, Any], value: object) -> list[str]:
        name = json.dumps(schema)
        if name not in self._validators:
            self._validators[name] = Draft202012Validator({**schema, "components": self.loaded["components"]})
        validator = self._validators[name]
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def operation(self, call: str) -> dict[str, Any] | None:
        """None where the document does not speak."""
        method, _, path = call.partition(" ")
        return self.loaded["paths"].get(path, {}).get(method.lower())

    def request_errors(self, exchange: Exchange) -> list[str]:
        """What the document says against the request: its headers and its body."""
        operation = self.operation(exchange.call) or {}
        errors = [
            f"{one['name']}: {error}"
            for one in operation.get("parameters", ())
            if one.get("in") == "header" and one["name"].lower() in exchange.headers
            for error in self.errors_of(one["schema"], exchange.headers[one["name"].lower()])
        ]
        if "requestBody" in operation:
            shape = operation["requestBody"]["content"]["application/json"]["schema"]
            errors += self.errors_of(shape, json.loads(exchange.body))
        return errors

    def answer_errors(self, exchange: Exchange) -> list[str]:
        """What the document says against the answer."""
        operation = self.operation(exchange.call) or {"responses": {}}
        answers = operation["responses"]
        answer = answers.get(str(exchange.reply.status), answers.get("default"))
        if answer is None or not exchange.reply.content_type.startswith("application/json"):
            return []
        shape = answer["content"]["application/json"]["schema"]
        value = json.loads(exchange.reply.body)
        return self.errors_of(shape, value if self.ours else without_nulls(value))


def faults_of(exchanges: Sequence[Exchange]) -> list[str]:
    """What any document says against any of these requests; they must be sending ones, and have their keys."""
    loaded = [Document(path) for path in documents()]
    errors = [error for document in loaded for one in exchanges for error in document.request_errors(one)]
    strange = [one.call for one in exchanges if one.call not in {SINGLE, BATCH}]
    return [*strange, *("no key" for one in exchanges if not one.headers.get("idempotency-key")), *errors]


def without_nulls(value: Any) -> Any:
    """Resend answers null where nothing was given; its document knows no null."""
    if isinstance(value, dict):
        return {name: without_nulls(part) for name, part in value.items() if part is not None}
    return [without_nulls(part) for part in value] if isinstance(value, list) else value
