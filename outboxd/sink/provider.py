"""The local Resend itself: one call judges one request, in the order in which Resend checks.

Edge, API key, rate, idempotency key, JSON, replay, quota, fields, domain, accept. Every request is written to the
ledger before it is answered. State is in memory and bounded; time comes in by the door. A single email is judged as a
batch of one.
"""

import collections
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from outboxd.sink.account import problem_with_key
from outboxd.sink.ask import BATCH, SINGLE, Ask, read, unread
from outboxd.sink.batch import batch_answer, problem_with_batch
from outboxd.sink.dice import MARK, Dice
from outboxd.sink.keys import Keys, Remembered
from outboxd.sink.ledger import Entry, Ledger
from outboxd.sink.mailbox import Kept, Mailbox
from outboxd.sink.meter import Meter
from outboxd.sink.options import AFTER_ACCEPTING, Fault, SinkOptions
from outboxd.sink.records import answer, call_of
from outboxd.sink.reply import BLOCKED, ODD_DELAYS, PAGES, REFUSED, Problem, Reply, refusal, unverified
from outboxd.sink.schedule import instant
from outboxd.sink.validate import bare, listed, problem_with

__all__ = ["BATCH", "SINGLE", "Entry", "Kept", "Provider", "Reply"]
LONGEST_KEY: Final = 256
STRICT: Final = "strict"


class Provider:
    """The state behind the API. `clock` gives Unix seconds."""

    def __init__(self, options: SinkOptions, *, clock: Callable[[], float]) -> None:
        self.options = options
        self.ledger = Ledger(options.ledger_path)
        self.mailbox = Mailbox()
        self._clock = clock
        self._keys = Keys()
        self._meter = Meter()
        self._dice = Dice(options.seed)
        self._lock = threading.Lock()

    @property
    def entries(self) -> collections.deque[Entry]:
        """The ledger's newest requests, oldest first."""
        return self.ledger.entries

    @property
    def accepted_by_uid(self) -> collections.Counter[str]:
        """How often each email was accepted."""
        return self.ledger.accepted_by_uid

    @property
    def verdicts(self) -> collections.Counter[str]:
        """How many requests ended how."""
        return self.ledger.verdicts

    @property
    def inbox(self) -> collections.OrderedDict[str, Kept]:
        """The newest accepted emails by id, oldest first."""
        return self.mailbox.mails

    def clock(self) -> float:
        """Unix seconds, as this Resend sees them."""
        return self._clock() + self.options.clock_offset

    def ask(self, headers: Mapping[str, str], body: bytes, *, call: str = SINGLE) -> Reply:
        """One request to send. Never raises for what a client sends."""
        at = self.clock()
        with self._lock:
            return self._judge(unread(call, headers, body, at=at), headers, body)

    def read(
        self, method: str, path: str, headers: Mapping[str, str], *, query: Mapping[str, str], body: bytes
    ) -> Reply:
        """Any other request: about emails that were accepted. Never raises for what a client sends."""
        call = call_of(method, path)
        at = self.clock()
        with self._lock:
            ask = unread(call or f"{method} {path}", headers, body, at=at)
            turned_away = self._door(ask, headers, sending=False)
            if turned_away is not None:
                return turned_away
            if call is None:
                return self._refuse(REFUSED["no-endpoint"], ask)
            found = answer(self.mailbox, call, path, query=query, body=body, now=at)
            if isinstance(found, tuple):
                return self._refuse(found, ask)
            self._write(ask, "read", 200)
            return Reply(200, json.dumps(found).encode(), self._headers(sending=False))

    def landed(self, key: str) -> None:
        """The answer of the request with this key is out: a repetition is a replay from now on."""
        with self._lock:
            self._keys.land(key)

    def summary(self) -> dict[str, object]:
        """What the ledger says in figures."""
        with self._lock:
            return self.ledger.summary()

    def control(self, changes: Mapping[str, Any]) -> None:
        """Change how it behaves from now on. Raises TypeError for what it does not know."""
        with self._lock:
            self.options = replace(self.options, **changes)

    def _door(self, ask: Ask, headers: Mapping[str, str], *, sending: bool) -> Reply | None:
        """Edge, API key, rate: what is asked before anybody looks at the request."""
        if self.options.edge_block or not headers.get("user-agent"):
            self._write(ask, "refused", BLOCKED.status)
            return BLOCKED
        problem = problem_with_key(headers, self.options, sending=sending)
        if problem is not None:
            return self._refuse(problem, ask)
        if not self._meter.take_request(self.options.rate_limit, ask.at):
            return self._refuse(REFUSED["429"], ask, verdict="limited")
        return None

    def _judge(self, ask: Ask, headers: Mapping[str, str], body: bytes) -> Reply:
        turned_away = self._door(ask, headers, sending=True)
        if turned_away is not None:
            return turned_away
        if "idempotency-key" in headers and not 1 <= len(ask.key) <= LONGEST_KEY:
            return self._refuse(REFUSED["key-length"], ask)
        try:
            ask = read(ask, json.loads(body))
        except (ValueError, RecursionError):
            return self._refuse(REFUSED["not-json"], ask)
        self.ledger.saw(ask.key, ask.sha256)
        met = self._dice.cast(ask, self.options, marked=MARK.encode() in body)
        if met is not None and met[0].kind not in AFTER_ACCEPTING:
            return self._commit(*met, ask)
        fault = met[0] if met is not None else None
        known = self._keys.find(ask.call, ask.key, since=ask.at - self.options.key_ttl)
        if known is not None:
            return self._repeated(known, ask, fault)
        return self._weigh(ask, headers.get("x-batch-validation", STRICT), fault)

    def _weigh(self, ask: Ask, mode: str, fault: Fault | None) -> Reply:
        """Quota, fields, domain; what passes is accepted."""
        problem = self._quota(ask) or (problem_with_batch(ask, mode) if ask.is_batch else None)
        if problem is not None:
            return self._refuse(problem, ask)
        problems = self._problems(ask)
        if problems and not (ask.is_batch and mode != STRICT):
            return self._refuse(next(iter(problems.values())), ask)
        return self._accept(ask, problems, mode, fault)

    def _problems(self, ask: Ask) -> dict[int, Problem]:
        """By the item's index."""
        now = datetime.fromtimestamp(ask.at, UTC)
        problems = {}
        for index, item in enumerate(ask.items):
            problem = problem_with(item, now=now, in_batch=ask.is_batch) or self._domain(item)
            if problem is not None:
                problems[index] = problem
        return problems

    def _accept(self, ask: Ask, problems: dict[int, Problem], mode: str, fault: Fault | None) -> Reply:
        now, size = ask.at, ask.size // len(ask.items)
        ids: list[str] = []
        addresses = 0
        for index, email in enumerate(ask.items):
            if index in problems:
                continue
            provider_id = self._dice.new_id()
            ids.append(provider_id)
            addresses += len(ask.recipients[index])
            self.ledger.accepted(ask.uids[index] or provider_id)
            kept = Kept(provider_id, now, email, ask.key, size)
            if "scheduled_at" in email:
                kept.scheduled_at = instant(email["scheduled_at"], datetime.fromtimestamp(now, UTC))
            self.mailbox.put(kept, most=self.options.keep)
        self._meter.use(addresses, now)
        told = batch_answer(ids, problems, mode) if ask.is_batch else json.dumps({"id": ids[0]}).encode()
        if ask.key:
            self._keys.remember(ask.call, ask.key, Remembered(now, ask.sha256, told, tuple(ids)))
        self._write(ask, "new", 200, ids, fault)
        return Reply(200, told, self._headers(), fault=fault)

    def _repeated(self, known: Remembered, ask: Ask, fault: Fault | None) -> Reply:
        if ask.sha256 != known.sha256:
            return self._refuse(REFUSED["conflict"], ask, verdict="conflict")
        if self._keys.flies(ask.key):
            return self._refuse(REFUSED["concurrent"], ask, verdict="in_flight")
        self.mailbox.asked_again(known.provider_ids)
        self._write(ask, "replay", 200, known.provider_ids, fault)
        return Reply(200, known.answer, self._headers(), fault=fault)

    def _commit(self, fault: Fault, index: int, ask: Ask) -> Reply:
        """A fault instead of an answer. Those that cut the connection have no status."""
        if fault.kind in PAGES:
            self._write(ask, "fault", PAGES[fault.kind].status, fault=fault)
            return PAGES[fault.kind]
        problem = REFUSED.get(fault.kind, (0, "", ""))
        if fault.kind == "domain":
            problem = unverified(_domain_of(ask.items[index]) if ask.items else "example.com")
        self._write(ask, "fault", problem[0], fault=fault)
        headers = {} if fault.kind == "429-bare" else self._headers()
        if fault.kind == "429":
            headers["retry-after"] = str(int(fault.argument or 1))
        elif fault.kind == "429-odd":
            headers["retry-after"] = ODD_DELAYS[self.ledger.next_number % len(ODD_DELAYS)]
        return replace(refusal(problem, headers), fault=fault)

    def _refuse(self, problem: Problem, ask: Ask, *, verdict: str = "refused") -> Reply:
        self._write(ask, verdict, problem[0])
        headers = self._headers(sending=ask.call in {SINGLE, BATCH})
        if verdict == "limited" and self.options.rate_headers:
            headers["retry-after"] = "1"
        return refusal(problem, headers)

    def _write(
        self,
        ask: Ask,
        verdict: str,
        status: int,
        provider_ids: list[str] | tuple[str, ...] = (),
        fault: Fault | None = None,
    ) -> None:
        entry = Entry(
            n=self.ledger.next_number,
            at=ask.at,
            call=ask.call,
            key=ask.key,
            sha256=ask.sha256,
            items=len(ask.items),
            uid="" if ask.is_batch or not ask.uids else ask.uids[0],
            uids=ask.uids,
            verdict=verdict,
            status=status,
            accepted=len(provider_ids) if verdict == "new" else 0,
            provider_id="" if ask.is_batch or not provider_ids else provider_ids[0],
            provider_ids=provider_ids,
            to=[address for recipients in ask.recipients for address in recipients],
            fault=fault.kind if fault else "",
        )
        self.ledger.write(entry)

    def _quota(self, ask: Ask) -> Problem | None:
        if self.options.daily_quota is None and self.options.monthly_quota is None:
            return None
        wanted = sum(map(len, ask.recipients))
        kind = self._meter.exceeded(self.options, wanted, ask.at)
        return REFUSED[kind] if kind else None

    def _domain(self, email: dict[str, Any]) -> Problem | None:
        verified = self.options.verified_domains
        if verified is None:
            return None
        domain = _domain_of(email)
        return None if domain in verified else unverified(domain)

    def _headers(self, *, sending: bool = True) -> dict[str, str]:
        return self._meter.headers(self.options, self.clock(), sending=sending)


def _domain_of(email: object) -> str:
    if not isinstance(email, dict):
        return ""
    return bare(str(next(iter(listed(email.get("from", ""))), ""))).rpartition("@")[2].lower()
