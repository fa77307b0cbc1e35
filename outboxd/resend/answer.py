"""What came back from one request, and how to read it without trusting it."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Literal

EXCERPT: Final = 2000  # characters
LONGEST_WAIT: Final = timedelta(minutes=15)
DEFAULT_WAIT: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whole; header names in lower case, at most 64 KiB of body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """The body's object; empty where it is anything else."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """No answer. `not_sent` only where it is certain that no byte of the request left."""

    kind: Literal["not_sent", "ambiguous"]
    message: str


def storable(text: str, *, longest: int = EXCERPT) -> str:
    """Text of a stranger that Postgres can store and a log can show."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text[:longest])


def text_of(answer: Answer, name: str) -> str | None:
    """One string of a JSON answer, on one line, storable."""
    value = answer.json().get(name)
    return " ".join(storable(value, longest=500).split()) if isinstance(value, str) else None


def wait_of(answer: Answer, *, now: datetime) -> timedelta:
    """How long to hold back: `retry-after` (seconds or a date), else `ratelimit-reset`, else a second; 0 to 15 min."""
    for name in ("retry-after", "ratelimit-reset"):
        seconds = _seconds(answer.headers.get(name, ""), now)
        if seconds is not None:
            return min(max(timedelta(seconds=seconds), timedelta(0)), LONGEST_WAIT)
    return DEFAULT_WAIT


def _seconds(value: str, now: datetime) -> float | None:
    try:
        found = float(value)
    except ValueError:
        return _seconds_until(value, now)
    return min(found, 1e6) if math.isfinite(found) else None


def _seconds_until(value: str, now: datetime) -> float | None:
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return None
    return (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
