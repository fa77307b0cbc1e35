"""What came back from the provider, and how its text becomes fit to be stored.

An `Answer` is any complete HTTP answer, whatever its status; a `TransportFailure` is everything else. Text in
them is a stranger's: before it is kept it loses what Postgres cannot store (NUL, halves of surrogate pairs) and
what exceeds 2,000 characters.
"""

import errno
import math
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Literal

MAX_CHARACTERS: Final = 2_000
MAX_RETRY_AFTER: Final = timedelta(minutes=15)
MAX_RATE: Final = 1e6
DEFAULT_RETRY_AFTER: Final = timedelta(seconds=1)

_CODE: Final = re.compile(r"\w+: (?:\S+: )?\[(?:Errno (-?\d{1,9})|[A-Z0-9]+: ([A-Z0-9_]+))\]")
_ERRNOS: Final = dict(errno.errorcode) | {  # errors of look-ups are below zero, where Linux has no errno
    getattr(socket, name): name
    for name in dir(socket)
    if name.startswith("EAI_") and getattr(socket, name) < 0
}
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_BREAKS: Final = re.compile("[\x00-\x20\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. Header names are in lower case; the body is as it came, never decoded."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """No complete answer. `not_sent` only where certainly no byte of the request was written."""

    kind: Literal["not_sent", "ambiguous"]
    message: str

    @property
    def code(self) -> str | None:
        """What the system calls it, read from Python's own text at the beginning; None as for a time-out.

        `ECONNREFUSED`, `EAI_NONAME` of a look-up, or OpenSSL's reason, such as `CERTIFICATE_VERIFY_FAILED`.
        """
        found = _CODE.match(self.message)
        if found is None:
            return None
        return found[2] or _ERRNOS.get(int(found[1]))


def storable(text: str) -> str:
    """The text as Postgres can store it, at most 2,000 characters."""
    return _UNSTORABLE.sub("\ufffd", text[:MAX_CHARACTERS])


def one_line(text: str) -> str:
    """Storable text without control characters or line breaks."""
    return _BREAKS.sub(" ", storable(text)).strip()


def excerpt(body: bytes) -> str:
    """The beginning of a body as storable text; what is not UTF-8 becomes U+FFFD."""
    return storable(body[: 4 * MAX_CHARACTERS].decode("utf-8", errors="replace"))


def retry_after(headers: Mapping[str, str], *, now: datetime) -> timedelta:
    """How long to ask nothing, after a 429: `retry-after`, else `ratelimit-reset`, else a second."""
    asked = asked_delay(headers, now=now)
    if asked is None:
        asked = _seconds(headers.get("ratelimit-reset", ""))
    return DEFAULT_RETRY_AFTER if asked is None else asked


def named_rate(headers: Mapping[str, str]) -> float | None:
    """Requests per second that the provider allows (`ratelimit-limit`, per second); None where it names no limit."""
    try:
        rate = float(headers.get("ratelimit-limit", ""))
    except ValueError:
        return None
    return rate if 0 < rate < MAX_RATE else None


def asked_delay(headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """`Retry-After` as 0 to 900 s; seconds or an HTTP date (RFC 9110 §10.2.3). None if absent or nonsense."""
    text = headers.get("retry-after", "")
    found = _seconds(text)
    return _until(text, now) if found is None else found


def _seconds(text: str) -> timedelta | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return None if math.isnan(seconds) else _clamped(seconds)


def _until(text: str, now: datetime) -> timedelta | None:
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return _clamped((moment - now).total_seconds())
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def _clamped(seconds: float) -> timedelta:
    return timedelta(seconds=min(max(seconds, 0.0), MAX_RETRY_AFTER.total_seconds()))
