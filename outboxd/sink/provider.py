"""The local Resend itself: one call judges one request, in the order in which Resend checks.

User-Agent, key, rate, idempotency key, JSON, replay, quota, fields, domain, accept. Every request is written to the
ledger before it is answered; the ledger is the evidence of tests and demo. State is in memory and bounded; time comes
in by the door.
"""

import collections
import hashlib
import json
import random
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from outboxd.sink.options import AFTER_ACCEPTING, Fault, SinkOptions
from outboxd.sink.validate import Problem, bare, listed, problem_with

JSON: Final = "application/json; charset=utf-8"
LONGEST_KEY: Final = 256
RATE_WINDOW: Final = 1.0  # seconds
REFUSED: Final[dict[str, Problem]] = {
    "422": (422, "validation_error", "Invalid `to` field."),
    "400": (400, "validation_error", "Invalid `to` field."),
    "domain": (403, "validation_error", "The example.com domain is not verified."),
    "revoked": (401, "validation_error", "API key is invalid"),
    "daily-quota": (429, "daily_quota_exceeded", "You have reached your daily email sending quota."),
    "monthly-quota": (429, "monthly_quota_exceeded", "You have reached your monthly email sending quota."),
    "500": (500, "application_error", "An unexpected error occurred."),
    "503": (503, "service_unavailable", "The service is unavailable."),
    "conflict": (
        409,
        "invalid_idempotent_request",
        "Same idempotency key used with a different request payload.",
    ),
    "concurrent": (
        409,
        "concurrent_idempotent_requests",
        "A request with this idempotency key is in progress.",
    ),
    "429": (429, "rate_limit_exceeded", "Too many requests."),
    "429-bare": (429, "rate_limit_exceeded", "Too many requests."),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One request in the ledger. `verdict`: new, replay, conflict, in_flight, limited, refused, fault."""

    n: int
    at: float
    key: str
    sha256: str
    uid: str
    verdict: str
    status: int
    provider_id: str
    to: list[str]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer, and the fault to commit on the way."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON
    fault: Fault | None = None


@dataclass(slots=True)
class Kept:
    """An accepted email, for the inbox."""

    provider_id: str
    at: float
    email: dict[str, Any]
    key: str
    asks: int = 1


class Provider:
    """The state behind the API. `clock` gives Unix seconds."""

    def __init__(self, options: SinkOptions, *, clock: Callable[[], float]) -> None:
        self.options = options
        self.clock = clock
        self.entries: collections.deque[Entry] = collections.deque(maxlen=1_000_000)
        self.inbox: collections.OrderedDict[str, Kept] = collections.OrderedDict()
        self.bodies: dict[str, set[str]] = {}
        self.accepted_by_uid: collections.Counter[str] = collections.Counter()
        self.verdicts: collections.Counter[str] = collections.Counter()
        self._keys: collections.OrderedDict[str, tuple[float, str, bytes]] = collections.OrderedDict()
        self._flying: set[str] = set()
        self._asks_of_key: collections.Counter[str] = collections.Counter()
        self._window = (0, 0)
        self._used = collections.Counter[str]()
        self._random = random.Random(options.seed)  # noqa: S311 - faults, repeatable by seed
        self._lock = threading.Lock()
        self._file: IO[str] | None = Path(options.ledger_path).open("a") if options.ledger_path else None  # noqa: SIM115

    def ask(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """One POST /emails. Never raises for what a client sends."""
        if not headers.get("user-agent"):
            return Reply(403, b"error code: 1010", content_type="text/plain")
        with self._lock:
            return self._judge(headers, body)

    def landed(self, key: str) -> None:
        """The answer of the request with this key is out: a repetition is a replay from now on."""
        with self._lock:
            self._flying.discard(key)

    def summary(self) -> dict[str, object]:
        """What the ledger says in figures. `duplicates` are uids that were accepted more than once."""
        with self._lock:
            return {
                "requests": sum(self.verdicts.values()),
                "verdicts": dict(self.verdicts),
                "accepted": sum(self.accepted_by_uid.values()),
                "uids": len(self.accepted_by_uid),
                "duplicates": sum(1 for times in self.accepted_by_uid.values() if times > 1),
                "keys_with_two_bodies": sum(1 for bodies in self.bodies.values() if len(bodies) > 1),
            }

    def control(self, changes: Mapping[str, Any]) -> None:
        """Change how it behaves from now on. Raises TypeError for what it does not know."""
        with self._lock:
            self.options = replace(self.options, **changes)

    def _judge(self, headers: Mapping[str, str], body: bytes) -> Reply:
        key = headers.get("idempotency-key", "")
        problem = self._credentials(headers) or self._rate()
        if problem is None and "idempotency-key" in headers and not 1 <= len(key) <= LONGEST_KEY:
            problem = (
                400,
                "invalid_idempotency_key",
                "The idempotency key must be between 1 and 256 characters.",
            )
        if problem is not None:
            return self._refuse(
                problem, key, body, {}, verdict="limited" if problem == REFUSED["429"] else "refused"
            )
        try:
            email = json.loads(body)
        except (ValueError, RecursionError):
            return self._refuse((400, "validation_error", "The body is not valid JSON."), key, body, {})
        parsed = email if isinstance(email, dict) else {}
        return self._with_key(key, body, email, parsed)

    def _with_key(self, key: str, body: bytes, email: object, parsed: dict[str, Any]) -> Reply:
        digest = hashlib.sha256(body).hexdigest()
        if key:
            self.bodies.setdefault(key, set()).add(digest)
            self._asks_of_key[key] += 1
        fault = self._fault_for(parsed, key)
        if fault is not None and fault.kind not in AFTER_ACCEPTING:
            return self._commit(fault, key, body, parsed)
        known = self._remembered(key)
        if known is not None:
            return self._repeated(known, key, digest, body, parsed, fault)
        problem = self._quota(parsed) or problem_with(email, now=datetime.fromtimestamp(self.clock(), UTC))
        problem = problem or self._domain(parsed)
        if problem is not None:
            return self._refuse(problem, key, body, parsed)
        return self._accept(key, digest, body, parsed, fault)

    def _accept(
        self, key: str, digest: str, body: bytes, email: dict[str, Any], fault: Fault | None
    ) -> Reply:
        provider_id = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        answer = json.dumps({"id": provider_id}).encode()
        if key:
            self._keys[key] = (self.clock(), digest, answer)
            self._flying.add(key)
        recipients = [bare(entry) for name in ("to", "cc", "bcc") for entry in listed(email.get(name, []))]
        self._used.update({self._day(): len(recipients), self._month(): len(recipients)})
        self._write(key, body, email, "new", 200, provider_id, fault)
        self.inbox[provider_id] = Kept(provider_id, self.clock(), email, key)
        while len(self.inbox) > self.options.keep:
            self.inbox.popitem(last=False)
        return Reply(200, answer, self._headers(), fault=fault)

    def _repeated(
        self,
        known: tuple[float, str, bytes],
        key: str,
        digest: str,
        body: bytes,
        email: dict[str, Any],
        fault: Fault | None,
    ) -> Reply:
        _, first_digest, answer = known
        if digest != first_digest:
            return self._refuse(REFUSED["conflict"], key, body, email, verdict="conflict")
        if key in self._flying:
            return self._refuse(REFUSED["concurrent"], key, body, email, verdict="in_flight")
        provider_id = json.loads(answer)["id"]
        if provider_id in self.inbox:
            self.inbox[provider_id].asks += 1
        self._write(key, body, email, "replay", 200, provider_id, fault)
        return Reply(200, answer, self._headers(), fault=fault)

    def _commit(self, fault: Fault, key: str, body: bytes, email: dict[str, Any]) -> Reply:
        status, name, message = REFUSED.get(fault.kind, (0, "", ""))
        self._write(key, body, email, "fault", status, "", fault)
        if fault.kind == "html-502":
            return Reply(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", content_type="text/html")
        headers = self._headers()
        if fault.kind == "429":
            headers["retry-after"] = str(int(fault.argument or 1))
        if fault.kind == "429-bare":
            headers = {}
        return Reply(status, _error(status, name, message), headers, fault=fault)

    def _refuse(
        self, problem: Problem, key: str, body: bytes, email: dict[str, Any], *, verdict: str = "refused"
    ) -> Reply:
        status, name, message = problem
        self._write(key, body, email, verdict, status, "", None)
        headers = self._headers()
        if name == "rate_limit_exceeded":
            headers["retry-after"] = "1"
        return Reply(status, _error(status, name, message), headers)

    def _write(
        self,
        key: str,
        body: bytes,
        email: dict[str, Any],
        verdict: str,
        status: int,
        provider_id: str,
        fault: Fault | None,
    ) -> None:
        uid = next((str(tag.get("value")) for tag in _tags(email) if tag.get("name") == "outboxd_uid"), "")
        to = [bare(str(entry)) for name in ("to", "cc", "bcc") for entry in listed(email.get(name, []))]
        digest = hashlib.sha256(body).hexdigest()
        entry = Entry(
            len(self.entries) + 1,
            self.clock(),
            key,
            digest,
            uid,
            verdict,
            status,
            provider_id,
            to,
            fault.kind if fault else "",
        )
        self.entries.append(entry)
        self.verdicts[verdict] += 1
        if verdict == "new":
            self.accepted_by_uid[uid or provider_id] += 1
        if self._file is not None:
            self._file.write(json.dumps(asdict(entry)) + "\n")
            self._file.flush()

    def _fault_for(self, email: dict[str, Any], key: str) -> Fault | None:
        """By recipient (`fault+KIND.N@…`: the first N asks), else by the options' probabilities."""
        local = bare(str((listed(email.get("to", "")) or [""])[0])).partition("@")[0]
        if local.startswith("fault+"):
            kind, _, times = local.removeprefix("fault+").partition(".")
            if not times.isdigit() or self._asks_of_key[key] <= int(times):
                return Fault(kind)
        return next(
            (fault for fault in self.options.faults if self._random.random() < fault.probability), None
        )

    def _credentials(self, headers: Mapping[str, str]) -> Problem | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return 401, "missing_api_key", "Missing API key in the authorization header."
        unknown = self.options.api_keys is not None and token not in self.options.api_keys
        if self.options.revoked or unknown or not token.startswith("re_"):
            return REFUSED["revoked"]
        return None

    def _rate(self) -> Problem | None:
        if self.options.rate_limit is None:
            return None
        window = int(self.clock() / RATE_WINDOW)
        current, used = self._window
        self._window = (window, used + 1 if current == window else 1)
        return REFUSED["429"] if self._window[1] > self.options.rate_limit else None

    def _quota(self, email: dict[str, Any]) -> Problem | None:
        wanted = sum(len(listed(email.get(name, []))) for name in ("to", "cc", "bcc"))
        for limit, period, kind in (
            (self.options.daily_quota, self._day(), "daily-quota"),
            (self.options.monthly_quota, self._month(), "monthly-quota"),
        ):
            if limit is not None and self._used[period] + wanted > limit:
                return REFUSED[kind]
        return None

    def _domain(self, email: dict[str, Any]) -> Problem | None:
        domain = bare(str(email.get("from", ""))).rpartition("@")[2].lower()
        verified = self.options.verified_domains
        if verified is None or domain in verified:
            return None
        return (
            403,
            "validation_error",
            f"The {domain} domain is not verified. Please, add and verify your domain.",
        )

    def _remembered(self, key: str) -> tuple[float, str, bytes] | None:
        while self._keys and next(iter(self._keys.values()))[0] < self.clock() - self.options.key_ttl:
            self._keys.popitem(last=False)
        return self._keys.get(key)

    def _headers(self) -> dict[str, str]:
        headers = {"x-resend-monthly-quota": str(self._used[self._month()])}
        if self.options.daily_quota is not None:
            headers["x-resend-daily-quota"] = str(self._used[self._day()])
        if self.options.rate_limit is not None:
            left = max(0, self.options.rate_limit - self._window[1])
            headers |= {
                "ratelimit-limit": str(self.options.rate_limit),
                "ratelimit-policy": f"{self.options.rate_limit};w=1",
                "ratelimit-remaining": str(left),
                "ratelimit-reset": "1",
            }
        return headers

    def _day(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%d")

    def _month(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m")


def _tags(email: dict[str, Any]) -> list[dict[str, Any]]:
    tags = email.get("tags", [])
    return [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []


def _error(status: int, name: str, message: str) -> bytes:
    return json.dumps({"statusCode": status, "message": message, "name": name}).encode()
