"""What was accepted, as the API tells it: GET one, GET a page, cancel, reschedule. Newest first.

There is no delivery here, so an email's last event is what its address says: the provider's test addresses bounce,
complain or are suppressed, whatever is due is delivered, and what is scheduled waits for the sink's clock.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from outboxd.sink.mailbox import Kept, Mailbox
from outboxd.sink.reply import REFUSED, Problem
from outboxd.sink.schedule import AHEAD, instant
from outboxd.sink.validate import bare, listed

UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
PAGE: Final = 20
LONGEST_PAGE: Final = 100
TEST_ADDRESSES: Final = {"bounced": "bounced", "complained": "complained", "suppressed": "suppressed"}
Answer = Problem | dict[str, Any]


def call_of(method: str, path: str) -> str | None:
    """The call without its id, such as `GET /emails/{id}`; None where there is no such endpoint."""
    match path.removeprefix("/").split("/"):
        case ["emails"]:
            return f"{method} /emails"
        case ["emails", "batch"]:
            return f"{method} /emails/batch"
        case ["emails", _]:
            return f"{method} /emails/{{id}}"
        case ["emails", _, "cancel"]:
            return f"{method} /emails/{{id}}/cancel"
        case _:
            return None


def answer(
    mailbox: Mailbox, call: str, path: str, *, query: Mapping[str, str], body: bytes, now: float
) -> Answer:
    """What the call says or does, or why not."""
    at = datetime.fromtimestamp(now, UTC)
    if call == "GET /emails":
        return _page(mailbox, query, at)
    if call not in {"GET /emails/{id}", "PATCH /emails/{id}", "POST /emails/{id}/cancel"}:
        return REFUSED["no-method"]
    provider_id = path.split("/")[2]
    if not UUID.fullmatch(provider_id):
        return REFUSED["no-uuid"]
    kept = mailbox.mails.get(provider_id.lower())
    if kept is None:
        return REFUSED["no-email"]
    if call == "GET /emails/{id}":
        return _whole(kept, at)
    return _cancel(kept, at) if call.startswith("POST") else _reschedule(kept, body, at)


def last_event(kept: Kept, now: datetime) -> str:
    """What happened to it by now."""
    if kept.canceled:
        return "canceled"
    if kept.scheduled_at is not None and kept.scheduled_at > now:
        return "scheduled"
    local, _, domain = bare(str(listed(kept.email.get("to", ""))[0])).lower().partition("@")
    return TEST_ADDRESSES.get(local.partition("+")[0], "delivered") if domain == "resend.dev" else "delivered"


def _cancel(kept: Kept, now: datetime) -> Answer:
    if last_event(kept, now) != "scheduled":
        return REFUSED["sent"]
    kept.canceled = True
    return {"object": "email", "id": kept.provider_id}


def _reschedule(kept: Kept, body: bytes, now: datetime) -> Answer:
    try:
        changes = json.loads(body)
    except (ValueError, RecursionError):
        return REFUSED["not-json"]
    if not isinstance(changes, dict) or "scheduled_at" not in changes:
        return 422, "missing_required_field", "Missing `scheduled_at` field."
    at = instant(changes["scheduled_at"], now)
    if at is None or at > now + AHEAD:
        return 422, "validation_error", "Invalid `scheduled_at` field."
    if last_event(kept, now) != "scheduled":
        return REFUSED["sent"]
    kept.scheduled_at = at
    return {"object": "email", "id": kept.provider_id}


def _page(mailbox: Mailbox, query: Mapping[str, str], now: datetime) -> Answer:
    limit, after, before = query.get("limit", str(PAGE)), query.get("after"), query.get("before")
    if not limit.isdecimal() or not 1 <= int(limit) <= LONGEST_PAGE:
        return 422, "validation_error", f"The `limit` must be between 1 and {LONGEST_PAGE}."
    if after is not None and before is not None:
        return 422, "validation_error", "Only one of `after` and `before` may be given."
    for cursor in (after, before):
        if cursor is not None and not UUID.fullmatch(cursor):
            return REFUSED["no-uuid"]
        if cursor is not None and cursor.lower() not in mailbox.mails:
            return 422, "validation_error", "The cursor is not the id of an email."
    # A page before a cursor is the nearest newer ones: walk from the oldest, then turn it round.
    walk = iter(mailbox.mails.values()) if before is not None else iter(reversed(mailbox.mails.values()))
    start = after or before
    if start is not None:
        for kept in walk:
            if kept.provider_id == start.lower():
                break
    found = list(islice(walk, int(limit) + 1))
    page = found[: int(limit)]
    if before is not None:
        page.reverse()
    more = len(found) > int(limit)
    return {"object": "list", "has_more": more, "data": [_brief(kept, now) for kept in page]}


def _brief(kept: Kept, now: datetime) -> dict[str, Any]:
    """As in a list: without bodies and tags, and null where nothing was given."""
    email = kept.email
    return {
        "id": kept.provider_id,
        "message_id": f"<{kept.provider_id}@outboxd.invalid>",
        "to": listed(email.get("to", [])),
        "from": email.get("from", ""),
        "created_at": _stamp(datetime.fromtimestamp(kept.at, UTC)),
        "subject": email.get("subject", ""),
        **{name: listed(email[name]) if name in email else None for name in ("bcc", "cc", "reply_to")},
        "last_event": last_event(kept, now),
        "scheduled_at": _stamp(kept.scheduled_at) if kept.scheduled_at else None,
    }


def _whole(kept: Kept, now: datetime) -> dict[str, Any]:
    email = kept.email
    brief = _brief(kept, now)
    return {
        "object": "email",
        **brief,
        **{name: brief[name] or [] for name in ("bcc", "cc", "reply_to")},
        "html": email.get("html"),
        "text": email.get("text"),
        "tags": email.get("tags", []),
    }


def _stamp(at: datetime) -> str:
    """As Postgres writes it, which is what the REST API shows."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
