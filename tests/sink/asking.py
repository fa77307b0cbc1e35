"""Ask the local Resend without sockets: its clock stands until it is moved."""

import json

from outboxd.sink.provider import BATCH, SINGLE, Provider, Reply

HEADERS = {"user-agent": "test", "authorization": "Bearer re_test"}


class Clock:
    """Time that stands until it is moved."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def ask(provider: Provider, body: object, *, key: str = "k", call: str = SINGLE, **headers: str) -> Reply:
    """One request whose answer arrives."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = provider.ask(HEADERS | {"idempotency-key": key} | headers, raw, call=call)
    provider.landed(key)
    return reply


def ask_batch(
    provider: Provider, body: object, *, key: str = "k", mode: str = "strict", **headers: str
) -> Reply:
    return ask(provider, body, key=key, call=BATCH, **{"x-batch-validation": mode} | headers)


def error(reply: Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.body)["name"]
