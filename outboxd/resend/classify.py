"""What an answer means. Pure; one table.

The name alone says little: `validation_error` is a bad field, a revoked key, an unverified domain. So an answer is
judged by status, name and, in three places, text. Sources: Resend's API reference ("Errors", "Rate limit",
"Idempotency keys"), and what its users report of the wire.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

from outboxd.core.outcome import (
    Ambiguous,
    Failed,
    Failure,
    Outcome,
    Paused,
    Rejected,
    Sent,
    Throttled,
    Unresolvable,
)
from outboxd.resend.answer import Answer, TransportFailure, storable, text_of, wait_of

IN_FLIGHT: Final = timedelta(seconds=3)
SUCCESS: Final = 2
REDIRECT: Final = 3
REFUSAL: Final = 4
LONGEST_ID: Final = 100  # characters
KEY_IS_INVALID: Final = "api key is invalid"

Meaning = Callable[[Failure, Answer, datetime], Outcome]


def _message(failure: Failure, _answer: Answer, _now: datetime) -> Outcome:
    return Rejected(_as(failure, "message"))


def _bug(failure: Failure, _answer: Answer, _now: datetime) -> Outcome:
    return Rejected(_as(failure, "bug"))


def _account(failure: Failure, _answer: Answer, _now: datetime) -> Outcome:
    return Paused(_as(failure, "pause"))


def _domain(failure: Failure, _answer: Answer, _now: datetime) -> Outcome:
    return Paused(_as(failure, "pause"), scope="domain")


def _field(failure: Failure, answer: Answer, now: datetime) -> Outcome:
    """A field is wrong; where it is `from`, no other email of that domain would pass either."""
    about_from = "`from`" in failure.message.lower() and "missing" not in failure.message.lower()
    return (_domain if about_from else _message)(failure, answer, now)


def _throttle(failure: Failure, answer: Answer, now: datetime) -> Outcome:
    return Throttled(_as(failure, "throttle"), wait_of(answer, now=now))


def _again(failure: Failure, _answer: Answer, _now: datetime) -> Outcome:
    return Failed(_as(failure, "transient"))


def _in_flight(failure: Failure, _answer: Answer, _now: datetime) -> Outcome:
    return Ambiguous(_as(failure, "ambiguous"), IN_FLIGHT)


def _other_body(failure: Failure, _answer: Answer, _now: datetime) -> Outcome:
    return Unresolvable(_as(failure, "bug"))


def _not_found(failure: Failure, answer: Answer, now: datetime) -> Outcome:
    return (_message if "template" in failure.message.lower() else _bug)(failure, answer, now)


TABLE: Final[dict[tuple[int, str], Meaning]] = {
    (400, "invalid_idempotency_key"): _bug,
    (400, "validation_error"): _field,
    (401, "missing_api_key"): _account,
    (401, "restricted_api_key"): _account,
    (401, "validation_error"): _account,
    (403, "restricted_api_key"): _account,
    (403, "suspended_api_key"): _account,
    (403, "invalid_api_key"): _account,
    (403, "invalid_permission"): _account,
    (403, "validation_error"): _domain,
    (404, "not_found"): _not_found,
    (405, "method_not_allowed"): _bug,
    (409, "concurrent_idempotent_requests"): _in_flight,
    (409, "invalid_idempotent_request"): _other_body,
    (409, "resource_locked"): _again,
    (422, "missing_required_field"): _message,
    (422, "missing_required_parameter"): _bug,
    (422, "invalid_parameter"): _field,
    (422, "validation_error"): _field,
    (422, "invalid_attachment"): _message,
    (422, "invalid_from_address"): _domain,
    (422, "invalid_access"): _bug,
    (422, "invalid_region"): _bug,
    (429, "rate_limit_exceeded"): _throttle,
    (429, "daily_quota_exceeded"): _account,
    (429, "monthly_quota_exceeded"): _account,
    (451, "security_error"): _account,
}
BY_STATUS: Final[dict[int, Meaning]] = {
    401: _account,
    403: _account,  # without a name that we know: an edge block (error code 1010)
    413: _message,
    429: _throttle,
    451: _account,
}


def classify(result: Answer | TransportFailure, *, now: datetime) -> Outcome:
    """The outcome of one request."""
    if isinstance(result, TransportFailure):
        if result.kind == "not_sent":
            return Failed(Failure("transient", result.message))
        return Ambiguous(Failure("ambiguous", result.message))
    kind = result.status // 100
    if kind == SUCCESS:
        return _accepted(result)
    if kind not in {REDIRECT, REFUSAL} or result.status == HTTPStatus.REQUEST_TIMEOUT:
        return Ambiguous(_failure(result, "ambiguous"))
    return _refused(result, now)


def _accepted(answer: Answer) -> Outcome:
    provider_id = text_of(answer, "id")
    if provider_id and len(provider_id) <= LONGEST_ID and provider_id.isascii():
        return Sent(provider_id)
    return Ambiguous(_failure(answer, "ambiguous", message="accepted, but without an id"))


def _refused(answer: Answer, now: datetime) -> Outcome:
    failure = _failure(answer, "refused")
    if KEY_IS_INVALID in failure.message.lower():
        return _account(failure, answer, now)
    meaning = TABLE.get((answer.status, failure.name or "")) or BY_STATUS.get(answer.status)
    if meaning is None:
        return Failed(_as(failure, "unknown_refusal"), transient=False)
    return meaning(failure, answer, now)


def _failure(answer: Answer, kind: str, *, message: str | None = None) -> Failure:
    return Failure(
        kind=kind,
        message=message or text_of(answer, "message") or f"HTTP {answer.status} without a message",
        name=text_of(answer, "name"),
        status=answer.status,
        excerpt=storable(answer.body.decode("utf-8", "replace")),
    )


def _as(failure: Failure, kind: str) -> Failure:
    return Failure(kind, failure.message, failure.name, failure.status, failure.excerpt)
