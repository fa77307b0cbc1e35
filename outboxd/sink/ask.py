"""One request that wants to send, as far as it could be read: a single email is a batch of one."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from outboxd.sink.validate import bare

SINGLE: Final = "POST /emails"
BATCH: Final = "POST /emails/batch"
UID_TAG: Final = "outboxd_uid"


@dataclass(frozen=True, slots=True)
class Ask:
    """`items` are what stands in the body, unchecked, with their tags `uids` and the `recipients` of each.

    `listed` says whether the body was an array. `at` is when all of it was there, in Unix seconds.
    """

    call: str
    key: str
    sha256: str
    size: int
    at: float
    items: Sequence[Any] = ()
    uids: Sequence[str] = ()
    recipients: Sequence[Sequence[str]] = ()
    listed: bool = False

    @property
    def is_batch(self) -> bool:
        """Whether it came to the batch endpoint."""
        return self.call == BATCH


def unread(call: str, headers: Mapping[str, str], body: bytes, *, at: float) -> Ask:
    """Before the body is parsed."""
    digest = hashlib.sha256(body).hexdigest()
    return Ask(call, headers.get("idempotency-key", ""), digest, len(body), at)


def read(ask: Ask, parsed: object) -> Ask:
    """With what the body says."""
    listed = isinstance(parsed, list)
    items: Sequence[Any] = (parsed if isinstance(parsed, list) else ()) if ask.is_batch else (parsed,)
    return replace(
        ask,
        items=items,
        uids=[_uid_of(item) for item in items],
        recipients=[_recipients_of(item) for item in items],
        listed=listed,
    )


def _uid_of(email: object) -> str:
    """The daemon's tag, which it puts last; "" where there is none."""
    tags = email.get("tags") if isinstance(email, dict) else None
    if isinstance(tags, list):
        for tag in reversed(tags):
            if isinstance(tag, dict) and tag.get("name") == UID_TAG:
                return str(tag.get("value"))
    return ""


def _recipients_of(email: object) -> list[str]:
    """The addresses of to, cc and bcc: each counts as one email of the quota."""
    if not isinstance(email, dict):
        return []
    found: list[str] = []
    for name in ("to", "cc", "bcc"):
        value = email.get(name)
        if isinstance(value, str):
            found.append(bare(value))
        elif isinstance(value, list):
            found += [bare(str(entry)) for entry in value]
    return found
