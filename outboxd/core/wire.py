"""The bytes of a request, from the stored payload and what was frozen with it. Pure and deterministic.

A provider compares the bytes that come under one key, so they may depend on nothing but the arguments: no clock,
no configuration, no newer serialiser. Serialisers are numbered and stay here while mail frozen under them may
still be unsent; a change to what one of them writes is a new number.

Each also looks once more for what must never leave: `Unsendable` names the field, and that email alone ends.
"""

import json
import re
from collections.abc import Callable
from typing import Final
from uuid import UUID

from outboxd.core.address import AddressError, bare
from outboxd.core.email import Frozen
from outboxd.core.recipients import without

LATEST: Final = 1
MAX_RECIPIENTS: Final = 50  # to, cc and bcc together

RECIPIENTS: Final = ("to", "cc", "bcc")
_ADDRESSES: Final = ("from", *RECIPIENTS, "reply_to")
_BREAKS_A_HEADER: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_HEADER_NAME: Final = re.compile("[!-9;-~]+")

Json = dict[str, object]


class WireError(ValueError):
    """What was frozen needs another version of this program."""


class Unsendable(ValueError):  # noqa: N818 - it says what the email is
    """A stored payload that must not reach the wire. `field` is the path of what is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        super().__init__(f"{field}: {reason}")


def key(uid: UUID, generation: int) -> str:
    """The idempotency key of an email: the same for every ask, new only for a deliberate second sending."""
    return f"obx1.{uid}.{generation}"


def render(payload: str, uid: UUID, frozen: Frozen) -> bytes:
    """The request's body. Raises Unsendable for the email's fault, WireError for an unknown serialiser."""
    serialise = _SERIALISERS.get(frozen.serialiser)
    if serialise is None:
        raise WireError(f"serialiser {frozen.serialiser} is unknown here (latest: {LATEST}): upgrade outboxd")
    return serialise(payload, uid, frozen)


def recipients(payload: str) -> tuple[str, ...]:
    """Every mailbox the email goes to, normalised, in the order of to, cc, bcc."""
    return _recipients(_parse(payload))


def _serialise_1(payload: str, uid: UUID, frozen: Frozen) -> bytes:
    """Keys in stored order, internationalised domains as A-labels, our tag last; compact UTF-8."""
    email = without(_parse(payload), frozen.removed)
    _check(email)
    wanted = _recipients(email)
    for field in _ADDRESSES:
        if email.get(field) is not None:
            email[field] = _with_ascii_domains(field, email[field])
    email["tags"] = [*_tags(email, frozen.tag), {"name": frozen.tag, "value": str(uid)}]
    if _recipients(email) != wanted:
        raise Unsendable("to", "the recipients on the wire would not be those of the row")
    return _dump(email)


_SERIALISERS: Final[dict[int, Callable[[str, UUID, Frozen], bytes]]] = {1: _serialise_1}


def _parse(payload: str) -> Json:
    try:
        email = json.loads(payload)
    except RecursionError as error:
        raise Unsendable("payload", "is nested too deeply") from error
    except ValueError as error:
        raise Unsendable("payload", f"is not JSON: {error}") from error
    if not isinstance(email, dict):
        raise Unsendable("payload", "is not an object")
    return email


def _dump(email: Json) -> bytes:
    try:
        text = json.dumps(email, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except RecursionError as error:
        raise Unsendable("payload", "is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise Unsendable("payload", "holds half of a surrogate pair") from error
    except ValueError as error:
        raise Unsendable("payload", "holds a number that JSON cannot carry") from error


def _check(email: Json) -> None:
    _refuse_breaks("subject", email.get("subject"))
    for name, value in _object("headers", email.get("headers")).items():
        if not _HEADER_NAME.fullmatch(name):
            raise Unsendable("headers", f"{name[:100]!r} is not the name of a header")
        if not isinstance(value, str):
            raise Unsendable(f"headers.{name}", "is not text")
        _refuse_breaks(f"headers.{name}", value)
    for position, attachment in enumerate(_list("attachments", email.get("attachments"))):
        for part in ("filename", "content_type", "content_id", "path"):
            field = f"attachments[{position}]"
            _refuse_breaks(f"{field}.{part}", _object(field, attachment).get(part))
    count = sum(len(_texts(field, email.get(field))) for field in RECIPIENTS)
    if not 1 <= count <= MAX_RECIPIENTS:
        raise Unsendable("to", f"to, cc and bcc hold {count} addresses, not 1 to {MAX_RECIPIENTS}")


def _refuse_breaks(field: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise Unsendable(field, "is not text")
    if value is not None and _BREAKS_A_HEADER.search(value):
        raise Unsendable(field, "holds a control character or line break")


def _recipients(email: Json) -> tuple[str, ...]:
    return tuple(address.lower() for field in RECIPIENTS for address in _bare(field, email.get(field)))


def _bare(field: str, value: object) -> list[str]:
    try:
        return [bare(text) for text in _texts(field, value)]
    except AddressError as error:
        raise Unsendable(field, str(error)) from error


def _with_ascii_domains(field: str, value: object) -> object:
    """The same value with each domain as A-labels; whatever stands around a domain stays as stored."""
    texts = _texts(field, value)
    if field == "from" and not isinstance(value, str):
        raise Unsendable(field, "is not text")
    written = [
        text if text.isascii() else _with_domain(text, address.rpartition("@")[2])
        for text, address in zip(texts, _bare(field, value), strict=True)
    ]
    return written[0] if isinstance(value, str) else written


def _with_domain(text: str, domain: str) -> str:
    before, at, after = text.rpartition("@")
    tail = after[len(after.rstrip("> ")) :]
    return f"{before}{at}{domain}{tail}"


def _tags(email: Json, own: str) -> list[object]:
    tags = _list("tags", email.get("tags"))
    if any(isinstance(tag, dict) and tag.get("name") == own for tag in tags):
        raise Unsendable("tags", f"{own} is reserved")
    return tags


def _texts(field: str, value: object) -> list[str]:
    found = [value] if isinstance(value, str) else _list(field, value)
    texts = [text for text in found if isinstance(text, str)]
    if len(texts) != len(found):
        raise Unsendable(field, "holds something that is not text")
    return texts


def _list(field: str, value: object) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Unsendable(field, "is not a list")
    return value


def _object(field: str, value: object) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unsendable(field, "is not an object")
    return value
