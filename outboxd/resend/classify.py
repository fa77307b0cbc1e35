"""What an answer of Resend means for the email: one table, pure.

Error names are overloaded (`validation_error` stands for a bad field, a dead key and an unverified domain), so a
row is found by status and name, and some rows read the message. Whatever is in no row is judged by its status;
when in doubt about acceptance the outcome is Ambiguous, and never Sent without the provider's id.

Order: transport, class of status, error object, the dead key's text, table, status.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from outboxd.core.outcome import (
    Ambiguous,
    Failed,
    Failure,
    Outcome,
    Paused,
    Rejected,
    Sent,
    SentAll,
    Throttled,
    Unresolvable,
)
from outboxd.resend.answer import (
    Answer,
    TransportFailure,
    asked_delay,
    excerpt,
    one_line,
    retry_after,
    storable,
)

WRONG_COUNT: Final = (
    "wrong_count"  # the code of a success that does not name as many emails as were asked for
)
IN_FLIGHT: Final = timedelta(seconds=3)  # until an ask that is under way under the same key has ended

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FIRST_FIELD: Final = re.compile(r"`([^`]*)`")
_MAX_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A 4xx answer, read."""

    answer: Answer
    name: str | None
    message: str
    now: datetime

    def failure(self, kind: str) -> Failure:
        return Failure(kind, self.message, self.name, self.answer.status, excerpt(self.answer.body))


_Verdict = Callable[[_Refusal], Outcome]


def classify(result: Answer | TransportFailure, *, now: datetime) -> Outcome:
    """The outcome of one ask. `now` is needed for dates in `Retry-After`."""
    if isinstance(result, TransportFailure):
        return _without_answer(result)
    refusal = _read(result, now)
    match result.status // 100:
        case 2:
            return _accepted(refusal)
        case 3:
            return _unexpected(refusal)
        case 4 if result.status != 408:  # noqa: PLR2004 - request timeout: the edge gave up waiting
            return _verdict(refusal)(refusal)
        case _:
            return Ambiguous(refusal.failure("ambiguous"), asked_delay(result.headers, now=now))


def classify_batch(result: Answer | TransportFailure, count: int, *, now: datetime) -> Outcome | SentAll:
    """The outcome of one ask for `count` emails. A success counts only with an id for each of them, in order."""
    if isinstance(result, TransportFailure) or result.status // 100 != 2:  # noqa: PLR2004 - a success
        return classify(result, now=now)
    ids = _ids(_read(result, now))
    if len(ids) == count:
        return SentAll(ids)
    text = f"HTTP {result.status} with {len(ids) or 'no'} usable ids for {count} emails"
    return Ambiguous(replace(_read(result, now).failure("ambiguous"), message=text, code=WRONG_COUNT))


def _without_answer(failure: TransportFailure) -> Outcome:
    if failure.kind == "not_sent":
        return Failed(Failure("transient", failure.message, code=failure.code))
    return Ambiguous(Failure("ambiguous", failure.message, code=failure.code))


def _accepted(refusal: _Refusal) -> Outcome:
    """A success counts only with its id, in JSON that says it is JSON."""
    content = _json(refusal.answer.body)
    provider_id = content.get("id")
    is_json = "json" in refusal.answer.headers.get("content-type", "").lower()
    if is_json and isinstance(provider_id, str) and _UUID.fullmatch(provider_id):
        return Sent(provider_id)
    return Ambiguous(refusal.failure("ambiguous"))


def _ids(refusal: _Refusal) -> tuple[str, ...]:
    """The ids of a batch's members; empty where the answer is anything but the documented shape."""
    if "json" not in refusal.answer.headers.get("content-type", "").lower():
        return ()
    content = _json(refusal.answer.body)
    data = content.get("data")
    if not isinstance(data, list) or content.get("errors"):
        return ()
    ids = [item.get("id") if isinstance(item, dict) else None for item in data]
    known = [id_ for id_ in ids if isinstance(id_, str) and _UUID.fullmatch(id_)]
    return tuple(known) if len(known) == len(ids) == len(set(known)) else ()


def _verdict(refusal: _Refusal) -> _Verdict:
    status, name = refusal.answer.status, refusal.name
    if status in _KEY_STATUSES and refusal.message.rstrip(".").lower() == "api key is invalid":
        return _pause_key
    if name is None:
        return _UNNAMED.get(status, _unexpected)
    return _TABLE.get((status, name)) or _UNKNOWN_NAME.get(status, _unexpected)


def _message(refusal: _Refusal) -> Outcome:
    return Rejected(refusal.failure("message"))


def _message_or_sender(refusal: _Refusal) -> Outcome:
    """A bad `from` is a domain's fault: it would refuse every other email from there."""
    field = _FIRST_FIELD.search(refusal.message)
    if field is not None and field[1] == "from":
        return _pause_domain(refusal)
    return _message(refusal)


def _template_or_bug(refusal: _Refusal) -> Outcome:
    return _message(refusal) if "template" in refusal.message.lower() else _bug(refusal)


def _bug(refusal: _Refusal) -> Outcome:
    return Rejected(refusal.failure("bug"))


def _pause(refusal: _Refusal) -> Outcome:
    return Paused(refusal.failure("pause"))


def _pause_key(refusal: _Refusal) -> Outcome:
    return Paused(refusal.failure("pause"), reason="key")


def _pause_blocked(refusal: _Refusal) -> Outcome:
    return Paused(refusal.failure("pause"), reason="blocked")


def _pause_for_today(refusal: _Refusal) -> Outcome:
    return Paused(refusal.failure("pause"), reason="daily_quota")


def _pause_for_this_month(refusal: _Refusal) -> Outcome:
    return Paused(refusal.failure("pause"), reason="monthly_quota")


def _pause_domain(refusal: _Refusal) -> Outcome:
    return Paused(refusal.failure("pause"), scope="domain", reason="domain")


def _unverified_or_account(refusal: _Refusal) -> Outcome:
    """403 `validation_error` is an unverified domain, or an account that may only mail its owner."""
    text = refusal.message.lower()
    unverified = "domain" in text and "not verified" in text
    return _pause_domain(refusal) if unverified else _pause(refusal)


def _throttle(refusal: _Refusal) -> Outcome:
    return Throttled(refusal.failure("throttle"), retry_after(refusal.answer.headers, now=refusal.now))


def _quota_or_throttle(refusal: _Refusal) -> Outcome:
    return _pause_for_this_month(refusal) if "quota" in (refusal.name or "") else _throttle(refusal)


def _in_flight(refusal: _Refusal) -> Outcome:
    return Ambiguous(refusal.failure("ambiguous"), IN_FLIGHT)


def _other_bytes_went(refusal: _Refusal) -> Outcome:
    """Other bytes are known under this key: they may have been accepted, and no retry can tell."""
    return Unresolvable(refusal.failure("bug"))


def _heals(refusal: _Refusal) -> Outcome:
    return Failed(refusal.failure("transient"), asked_delay(refusal.answer.headers, now=refusal.now))


def _unexpected(refusal: _Refusal) -> Outcome:
    return Failed(refusal.failure("unexpected"), transient=False)


_KEY_STATUSES: Final = (400, 401, 403)

_TABLE: Final[Mapping[tuple[int, str], _Verdict]] = {
    (400, "invalid_idempotency_key"): _bug,
    (400, "validation_error"): _message_or_sender,
    (400, "invalid_parameter"): _message_or_sender,
    (400, "invalid_attachment"): _message,
    (400, "missing_required_field"): _message,
    (401, "missing_api_key"): _pause_key,
    (401, "restricted_api_key"): _pause_key,
    (403, "restricted_api_key"): _pause_key,
    (403, "suspended_api_key"): _pause_key,
    (403, "invalid_api_key"): _pause_key,
    (403, "invalid_permission"): _pause_key,
    (403, "validation_error"): _unverified_or_account,
    (404, "not_found"): _template_or_bug,
    (405, "method_not_allowed"): _bug,
    (409, "concurrent_idempotent_requests"): _in_flight,
    (409, "invalid_idempotent_request"): _other_bytes_went,
    (409, "resource_locked"): _heals,
    (422, "missing_required_field"): _message,
    (422, "missing_required_parameter"): _bug,
    (422, "invalid_parameter"): _message_or_sender,
    (422, "validation_error"): _message_or_sender,
    (422, "invalid_attachment"): _message,
    (422, "invalid_from_address"): _pause_domain,
    (422, "invalid_access"): _bug,
    (422, "invalid_region"): _bug,
    (429, "rate_limit_exceeded"): _throttle,
    (429, "daily_quota_exceeded"): _pause_for_today,
    (429, "monthly_quota_exceeded"): _pause_for_this_month,
    (451, "security_error"): _pause,
}
_UNKNOWN_NAME: Final[Mapping[int, _Verdict]] = {
    401: _pause_key,
    413: _message,
    429: _quota_or_throttle,
    451: _pause,
}
_UNNAMED: Final[Mapping[int, _Verdict]] = {
    **_UNKNOWN_NAME,
    403: _pause_blocked,  # no error object: the edge in front of Resend blocks us
}


def _read(answer: Answer, now: datetime) -> _Refusal:
    content = _json(answer.body)
    name, message = content.get("name"), content.get("message")
    return _Refusal(
        answer,
        storable(name)[:_MAX_NAME] if isinstance(name, str) else None,
        _said(answer, message),
        now,
    )


def _said(answer: Answer, message: object) -> str:
    said = one_line(message) if isinstance(message, str) else ""
    if said:
        return said
    kind = "a success without an id" if answer.status // 100 == 2 else "no error message"  # noqa: PLR2004 - 2xx
    return f"HTTP {answer.status} with {kind}"


def _json(body: bytes) -> dict[str, object]:
    """The body's object; empty if it is anything else."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
