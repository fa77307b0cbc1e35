"""What the local Resend answers: a reply, and the closed list of its refusals."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from outboxd.sink.options import Fault

JSON: Final = "application/json; charset=utf-8"
Problem = tuple[int, str, str]  # status, name, message

REFUSED: Final[dict[str, Problem]] = {
    "422": (422, "validation_error", "Invalid `to` field."),
    "400": (400, "validation_error", "Invalid `to` field."),
    "revoked": (401, "validation_error", "API key is invalid"),
    "revoked-400": (400, "validation_error", "API key is invalid"),
    "inactive": (403, "restricted_api_key", "API key is not active"),
    "suspended": (403, "suspended_api_key", "This API key is suspended"),
    "restricted": (401, "restricted_api_key", "This API key is restricted to only send emails"),
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
    "429-odd": (429, "rate_limit_exceeded", "Too many requests."),
    "no-key": (401, "missing_api_key", "Missing API key in the authorization header."),
    "key-length": (
        400,
        "invalid_idempotency_key",
        "The idempotency key must be between 1 and 256 characters.",
    ),
    "not-json": (400, "validation_error", "The body is not valid JSON."),
    "no-endpoint": (404, "not_found", "The requested endpoint does not exist."),
    "no-method": (405, "method_not_allowed", "This endpoint does not support this method."),
    "no-email": (404, "not_found", "Email not found"),
    "no-uuid": (422, "invalid_parameter", "The `id` must be a valid UUID."),
    "sent": (422, "validation_error", "Only a scheduled email can be changed or canceled."),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer, and the fault to commit on the way."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON
    fault: Fault | None = None


BLOCKED: Final = Reply(403, b"error code: 1010", content_type="text/plain; charset=UTF-8")
HTML: Final = "text/html; charset=UTF-8"
PAGES: Final[dict[str, Reply]] = {  # of who stands before Resend
    "html-502": Reply(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", content_type=HTML),
    "407": Reply(
        407,
        b"<html><body><h1>407 Proxy Authentication Required</h1></body></html>",
        {"proxy-authenticate": 'Basic realm="proxy"'},
        content_type=HTML,
    ),
    "redirect": Reply(307, b"", {"location": "/elsewhere"}, content_type=HTML),
}
ODD_DELAYS: Final = ("-5", "nan", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "0.5, 1", "")  # of retry-after


def refusal(problem: Problem, headers: Mapping[str, str]) -> Reply:
    """The one shape of Resend's errors."""
    status, name, message = problem
    body = json.dumps({"statusCode": status, "message": message, "name": name}).encode()
    return Reply(status, body, headers)


def unverified(domain: str) -> Problem:
    """The from-domain is not this account's."""
    message = f"The {domain} domain is not verified. Please, add and verify your domain."
    return 403, "validation_error", message
