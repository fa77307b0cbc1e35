"""What Resend refuses about one email, as far as its reference and its users tell. Pure; fetches nothing."""

import base64
import binascii
import re
from datetime import datetime, timedelta
from typing import Any, Final

from outboxd.sink.reply import Problem

ADDRESS: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+"
)
TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
MOST: Final = {"recipients": 50, "tags": 75, "attachment_bytes": 40 * 1024 * 1024}
AHEAD: Final = timedelta(days=30)


def problem_with(email: object, *, now: datetime, in_batch: bool = False) -> Problem | None:
    """The first thing that is wrong, or None. A batch carries no attachments."""
    if not isinstance(email, dict):
        return 422, "validation_error", "The request body must be an object."
    if in_batch and email.get("attachments"):
        return 422, "validation_error", "The `attachments` field is not supported in batch requests."
    for check in (_required, _addresses, _texts, _headers, _tags, _attachments, _scheduled):
        problem = check(email, now)
        if problem is not None:
            return problem
    return None


def bare(entry: str) -> str:
    """The address in `Name <address>`."""
    return entry.rpartition("<")[2].rstrip(">").strip()


def listed(value: object) -> list[Any]:
    """A field that may be one or several."""
    return value if isinstance(value, list) else [value]


def _required(email: dict[str, Any], _now: datetime) -> Problem | None:
    needed = ("to",) if isinstance(email.get("template"), dict) else ("from", "to", "subject")
    for name in needed:
        if not email.get(name):
            return 422, "missing_required_field", f"Missing `{name}` field."
    if "template" in email and ("html" in email or "text" in email):
        return 422, "validation_error", "`template` cannot be used together with `html` or `text`."
    if "template" not in email and not email.get("html") and not email.get("text"):
        return 422, "validation_error", "Missing `html` or `text` field."
    return None


def _addresses(email: dict[str, Any], _now: datetime) -> Problem | None:
    for name in ("from", "to", "cc", "bcc", "reply_to"):
        for entry in listed(email.get(name, [])):
            if not isinstance(entry, str) or not _is_address(entry):
                return (
                    422,
                    "validation_error",
                    (
                        f"Invalid `{name}` field. The email address needs to follow the `email@example.com` or "
                        "`Name <email@example.com>` format."
                    ),
                )
        if name != "from" and len(listed(email.get(name, []))) > MOST["recipients"]:
            return (
                422,
                "validation_error",
                f"The `{name}` field must have at most {MOST['recipients']} items.",
            )
    return None


def _is_address(entry: str) -> bool:
    return "\n" not in entry and "\r" not in entry and bool(ADDRESS.fullmatch(bare(entry)))


def _texts(email: dict[str, Any], _now: datetime) -> Problem | None:
    for name in ("subject", "html", "text"):
        if name in email and not isinstance(email[name], str):
            return 422, "validation_error", f"The `{name}` field must be a string."
    return None


def _headers(email: dict[str, Any], _now: datetime) -> Problem | None:
    headers = email.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        return 422, "validation_error", "The `headers` field must be an object of strings."
    return None


def _tags(email: dict[str, Any], _now: datetime) -> Problem | None:
    tags = email.get("tags", [])
    if not isinstance(tags, list) or len(tags) > MOST["tags"]:
        return 422, "validation_error", f"The `tags` field must be an array of at most {MOST['tags']} items."
    for tag in tags:
        for name in ("name", "value"):
            if not isinstance(tag, dict) or not TAG.fullmatch(str(tag.get(name, ""))):
                return (
                    422,
                    "validation_error",
                    "Tags should only contain ASCII letters, numbers, underscores, or dashes.",
                )
    return None


def _attachments(email: dict[str, Any], _now: datetime) -> Problem | None:
    total = 0
    for item in listed(email.get("attachments", [])):
        if not isinstance(item, dict) or not (item.get("content") or item.get("path")):
            return 422, "invalid_attachment", "Attachment must have either a `content` or `path`."
        content = item.get("content", "")
        try:
            total += (
                len(base64.b64decode(content, validate=True)) * 4 // 3
                if isinstance(content, str)
                else len(content)
            )
        except (binascii.Error, ValueError):
            return 422, "invalid_attachment", "Attachment content is not valid base64."
    if total > MOST["attachment_bytes"]:
        return 422, "invalid_attachment", "Attachments must be at most 40 MB."
    return None


def _scheduled(email: dict[str, Any], now: datetime) -> Problem | None:
    given = email.get("scheduled_at")
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        return 422, "validation_error", "Invalid `scheduled_at` field."
    if at.tzinfo is None or at > now + AHEAD:
        return 422, "validation_error", "`scheduled_at` must be at most 30 days ahead."
    return None
