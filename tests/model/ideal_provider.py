"""Resend as far as the promise needs it, with a clock of the caller's: keys, bodies, acceptances, asks that come late."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from hypothesis import strategies as st

from outboxd.core.outcome import Outcome, SentAll
from outboxd.resend.answer import Answer, TransportFailure
from outboxd.resend.classify import classify, classify_batch

REMEMBERS: Final = timedelta(hours=24)
ON_ITS_WAY: Final = timedelta(seconds=59)  # that an ask whose client gave up may still arrive
JSON: Final = {"content-type": "application/json"}

GONE: Final = TransportFailure("ambiguous", "ReadTimeout: no answer")
EDGE: Final = {  # what answers before the provider has looked at the key
    "refused connection": TransportFailure("not_sent", "ConnectError: refused"),
    "429": Answer(429, JSON | {"retry-after": "7"}, b'{"name":"rate_limit_exceeded","message":"slow down"}'),
    "daily quota": Answer(429, JSON, b'{"name":"daily_quota_exceeded","message":"enough"}'),
    "bad key": Answer(401, JSON, b'{"name":"missing_api_key","message":"no"}'),
    "domain": Answer(403, JSON, b'{"name":"validation_error","message":"The a.example domain is not verified"}'),
    "unknown 4xx": Answer(418, JSON, b'{"name":"teapot","message":"no"}'),
    "locked": Answer(409, JSON, b'{"name":"resource_locked","message":"wait"}'),
    "500, nothing done": Answer(500, JSON, b'{"name":"application_error","message":"oops"}'),
    "lost on the way": GONE,
}  # fmt: skip
AFTER: Final = {  # what becomes of the answer after the provider has done its work
    "in order": None,
    "answer lost": GONE,
    "500, though done": Answer(500, JSON, b"{}"),
    "garbage 200": Answer(200, {"content-type": "text/plain"}, b"ok"),
    "empty 200": Answer(200, JSON, b""),
    "in flight": Answer(409, JSON, b'{"name":"concurrent_idempotent_requests","message":"wait"}'),
}
FICKLE: Final = "refused this time"  # a 422 for what it would accept at another time
CRUX: Final = (
    "late",
    FICKLE,
    "answer lost",
    "500, nothing done",
)  # what histories of double sending are made of
KINDS: Final = st.one_of(st.sampled_from(CRUX), st.sampled_from((*EDGE, *AFTER, FICKLE, "late")))

SOONER: Final = st.sampled_from([timedelta(0), timedelta(seconds=1), timedelta(seconds=30)])
LATER: Final = st.sampled_from(
    [timedelta(seconds=61), *(timedelta(hours=hours) for hours in (1, 22.9, 24.1))]
)


@dataclass
class IdealProvider:
    """Accepts what it is asked unless a member is bad, once per key and day. Emails are told by the "n" in their bytes.

    `accepted` is the truth, by email; `refused` are those that it said no to without cause.
    """

    accepted: dict[int, list[datetime]] = field(default_factory=dict)
    keys: dict[str, tuple[datetime, bytes, Answer]] = field(default_factory=dict)
    bodies: dict[str, set[bytes]] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    under_way: list[tuple[datetime, str, bytes, frozenset[int]]] = field(default_factory=list)
    batch: bool = False

    def ask(
        self, kind: str, key: str, body: bytes, *, now: datetime, bad: frozenset[int]
    ) -> Outcome | SentAll:
        """The outcome that the client sees of one ask of this kind."""
        self.bodies.setdefault(key, set()).add(body)
        if kind == "late":
            self.under_way.append((now + ON_ITS_WAY, key, body, bad))
            result: Answer | TransportFailure = GONE
        elif kind in EDGE:
            result = EDGE[kind]
        else:
            answer = self._work(key, body, now=now, bad=bad, fickle=kind == FICKLE)
            result = AFTER.get(kind) or answer
        if self.batch:
            return classify_batch(result, len(_ids(body)), now=now)
        return classify(result, now=now)

    def arrive(self, place: int, *, now: datetime) -> None:
        """An ask that everybody had given up arrives after all, if it is not too late."""
        until, key, body, bad = self.under_way.pop(place % len(self.under_way))
        if now <= until:
            self._work(key, body, now=now, bad=bad)

    def _work(
        self, key: str, body: bytes, *, now: datetime, bad: frozenset[int], fickle: bool = False
    ) -> Answer:
        ids = _ids(body)
        known = self.keys.get(key)
        if known is not None and now < known[0] + REMEMBERS:
            return (
                known[2]
                if known[1] == body
                else _said(409, name="invalid_idempotent_request", message="other")
            )
        if fickle or bad & set(ids):
            self.refused |= set(ids) if fickle else set()
            return _said(422, name="validation_error", message="Invalid `to` field.")
        for id_ in ids:
            self.accepted.setdefault(id_, []).append(now)
        provider_ids = [{"id": str(UUID(int=id_ + 1))} for id_ in ids]
        answer = _said(200, data=provider_ids) if self.batch else _said(200, **provider_ids[0])
        self.keys[key] = (now, body, answer)
        return answer


def _ids(body: bytes) -> list[int]:
    content = json.loads(body)
    return [item["n"] for item in content] if isinstance(content, list) else [content["n"]]


def _said(status: int, **content: object) -> Answer:
    return Answer(status, JSON, json.dumps(content).encode())
