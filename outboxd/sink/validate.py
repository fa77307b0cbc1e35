"""What Resend refuses about one email, as far as its reference and its users tell. Pure; fetches nothing."""

import base64
import binascii
import re
from datetime import datetime
from typing import Any, Final

from outboxd.sink.reply import Problem
from outboxd.sink.schedule import AHEAD, instant

ADDRESS: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+"
)
TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
MOST: Final = {"recipients": 50, "tags": 75, "attachment_bytes": 40 * 1024 * 1024}


def problem_with(email: object, *, now: datetime, in_batch: bool = False) -> Problem | None:
    """The first thing that is wrong, or None. A batch carries no attachments."""
    if not isinstance(email, dict):
        return 422, "validation_error", "The request body must be an object."
    if in_batch and email.get("attachments"):
        return 422, "validation_error", "The `attachments` field is not supported in batch requests."
    for check in CHECKS:
        problem = check(email, now)
        if problem is not None:
            return problem
    return None


def bare(entry: str) -> str:
    """The address in `Name <address>`."""
    if "<" not in entry and ">" not in entry:
        return entry.strip()
    return entry.rpartition("<")[2].rstrip(">").strip()


def listed(value: object) -> list[Any]:
    """A field that may be one or several."""
    return value if isinstance(value, list) else [value]


def _required(email: dict[str, Any], _now: datetime) -> Problem | None:
    if "template" in email:
        return _templated(email)
    for name in ("from", "to", "subject"):
        if not email.get(name):
            return 422, "missing_required_field", f"Missing `{name}` field."
    if not email.get("html") and not email.get("text"):
        return 422, "validation_error", "Missing `html` or `text` field."
    return None


def _templated(email: dict[str, Any]) -> Problem | None:
    for name in ("to",) if isinstance(email["template"], dict) else ("from", "to", "subject"):
        if not email.get(name):
            return 422, "missing_required_field", f"Missing `{name}` field."
    if "html" in email or "text" in email:
        return 422, "validation_error", "`template` cannot be used together with `html` or `text`."
    return None


def _addresses(email: dict[str, Any], _now: datetime) -> Problem | None:
    for name in ("from", "to", "cc", "bcc", "reply_to"):
        if name not in email:
            continue
        entries = listed(email[name])
        for entry in entries:
            if not isinstance(entry, str) or not _is_address(entry):
                message = (
                    f"Invalid `{name}` field. The email address needs to follow the `email@example.com` or "
                    "`Name <email@example.com>` format."
                )
                return 422, "validation_error", message
        if name != "from" and len(entries) > MOST["recipients"]:
            message = f"The `{name}` field must have at most {MOST['recipients']} items."
            return 422, "validation_error", message
    return None


def _is_address(entry: str) -> bool:
    if ADDRESS.fullmatch(entry):  # the most frequent form, without taking it apart
        return True
    return "\n" not in entry and "\r" not in entry and ADDRESS.fullmatch(bare(entry)) is not None


def _texts(email: dict[str, Any], _now: datetime) -> Problem | None:
    for name in ("subject", "html", "text"):
        if name in email and not isinstance(email[name], str):
            return 422, "validation_error", f"The `{name}` field must be a string."
    return None


def _headers(email: dict[str, Any], _now: datetime) -> Problem | None:
    if "headers" not in email:
        return None
    headers = email["headers"]
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        return 422, "validation_error", "The `headers` field must be an object of strings."
    return None


def _tags(email: dict[str, Any], _now: datetime) -> Problem | None:
    if "tags" not in email:
        return None
    tags = email["tags"]
    if not isinstance(tags, list) or len(tags) > MOST["tags"]:
        return 422, "validation_error", f"The `tags` field must be an array of at most {MOST['tags']} items."
    if not all(map(_is_tag, tags)):
        message = "Tags should only contain ASCII letters, numbers, underscores, or dashes."
        return 422, "validation_error", message
    return None


def _is_tag(tag: object) -> bool:
    if not isinstance(tag, dict):
        return False
    name, value = tag.get("name"), tag.get("value")
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and TAG.fullmatch(name) is not None
        and TAG.fullmatch(value) is not None
    )


def _attachments(email: dict[str, Any], _now: datetime) -> Problem | None:
    if "attachments" not in email:
        return None
    total = 0
    for item in listed(email["attachments"]):
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
    if "scheduled_at" not in email:
        return None
    at = instant(email["scheduled_at"], now)
    if at is None:
        return 422, "validation_error", "Invalid `scheduled_at` field."
    if at > now + AHEAD:
        return 422, "validation_error", "`scheduled_at` must be at most 30 days ahead."
    return None


CHECKS: Final = (_required, _addresses, _texts, _headers, _tags, _attachments, _scheduled)
