"""The local Resend as an ASGI application: the API, the inbox, and `/_sink/` for tests and the demo.

`/emails` is answered without a framework, because a benchmark of a sender should not measure its sink. Faults
that cut the connection do so on the transport below ASGI.
"""

import asyncio
import contextlib
import json
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from outboxd.sink import inbox
from outboxd.sink.ask import BATCH, SINGLE
from outboxd.sink.bent import BENT
from outboxd.sink.options import SinkOptions, parse_changes
from outboxd.sink.provider import Provider
from outboxd.sink.reply import Reply

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MOST_BODY: Final = 64 * 1024 * 1024  # bytes
FOREVER: Final = 3600.0  # seconds
DRIP: Final = 0.5  # seconds per byte


class Sink:
    """The ASGI application; `provider` is its state."""

    def __init__(self, options: SinkOptions, *, clock: Callable[[], float] = time.time) -> None:
        self.provider = Provider(options, clock=clock)
        self._pages = Starlette(routes=[*inbox.routes(self.provider), *_control_routes(self.provider)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Emails here, all else to the pages."""
        if scope["type"] == "http" and scope["path"].startswith("/emails"):
            await self._api(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method, path = scope["method"], scope["path"].rstrip("/")
        call, body = f"{method} {path}", await _body(receive)
        if body is None:
            return
        if call in {SINGLE, BATCH}:
            reply = self.provider.ask(headers, body, call=call)
        else:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            reply = self.provider.read(method, path, headers, query=query, body=body)
        if self.provider.options.think_time:
            await asyncio.sleep(self.provider.options.think_time)
        await _commit(reply, receive, send)
        self.provider.landed(headers.get("idempotency-key", ""))


async def _commit(reply: Reply, receive: Receive, send: Send) -> None:
    """Answer, or do what the fault says instead."""
    kind = reply.fault.kind if reply.fault else ""
    if kind in {"reset", "accept-reset"}:
        _cut(send)
    elif kind in {"hang", "accept-hang"}:
        await _until_gone(receive)
    elif kind == "drip":
        await _drip(reply, send)
    elif kind in BENT:
        _say(send, BENT[kind](reply))
        await _until_gone(receive)
    elif kind in SPOILED:
        await _answer(send, Reply(200, SPOILED[kind](reply.body), reply.headers, reply.content_type))
    else:
        if kind == "slow" and reply.fault:
            await asyncio.sleep(reply.fault.argument or 2.0)
        await _answer(send, reply)


def _fewer_ids(body: bytes) -> bytes:
    answer = json.loads(body)
    return json.dumps({"data": answer.get("data", [])[:-1]}).encode()


SPOILED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "truncated": lambda body: body[: len(body) // 2],
    "empty-200": lambda _: b"",
    "no-id": lambda _: b'{"object":"email"}',
    "bad-id": lambda body: re.sub(rb'"id": ?"[^"]*"', b'"id":"em_42"', body),
    "not-json": lambda _: b"ok",
    "fewer-ids": _fewer_ids,
    "huge": lambda body: body + b" " * 4_000_000,
}


async def _body(receive: Receive) -> bytes | None:
    """All of it; None where the client left before its end, so that half a request is no request."""
    parts, size, more = [], 0, True
    while more and size <= MOST_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
    return b"".join(parts)


async def _until_gone(receive: Receive) -> None:
    """Until the client hangs up: what never answers holds no memory for those who left."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FOREVER):
            while (await receive())["type"] != "http.disconnect":
                pass


async def _answer(send: Send, reply: Reply) -> None:
    headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    headers += [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _drip(reply: Reply, send: Send) -> None:
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for byte in reply.body:
        await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await asyncio.sleep(DRIP)
    await send({"type": "http.response.body", "body": b""})


def _cut(send: Send) -> None:
    """Reset the connection."""
    transport = _transport(send)
    peer = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _say(send: Send, answer: bytes) -> None:
    """These bytes and nothing else."""
    transport = _transport(send)
    transport.write(answer)
    transport.close()


def _transport(send: Send) -> asyncio.Transport:
    """The one of uvicorn, whose send is a method of the object that owns it."""
    return send.__self__.transport  # type: ignore[attr-defined, no-any-return]


def _control_routes(provider: Provider) -> list[Route]:
    async def summary(_request: Request) -> Response:
        return JSONResponse(provider.summary())

    async def ledger(request: Request) -> Response:
        try:
            after = int(request.query_params.get("after", "0"))
        except ValueError:
            return JSONResponse({"error": "after is a whole number"}, 400)
        return JSONResponse([entry.record() for entry in list(provider.entries) if entry.n > after])

    async def control(request: Request) -> Response:
        try:
            provider.control(parse_changes(await request.json()))
        except (ValueError, TypeError, AttributeError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"ok": True, "now": provider.clock()})

    return [
        Route("/_sink/summary", summary),
        Route("/_sink/ledger", ledger),
        Route("/_sink/control", control, methods=["POST"]),
    ]
