"""One setting: how it is declared, and what is checked about its value. Secrets do not show."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from outboxd.core.secret import Secret

UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def setting(default: object, doc: str, check: Callable[[Any], str | None] | None = None) -> Any:
    """A documented field; `check` says what is wrong with a value, or None."""
    return field(default=default, metadata={"doc": doc, "check": check})


def between(low: float, high: float) -> Callable[[float], str | None]:
    """A check for numbers."""
    return lambda value: None if low <= value <= high else f"must be between {low:g} and {high:g}"


def lasting(low: str, high: str) -> Callable[[timedelta], str | None]:
    """A check for durations."""
    return lambda value: (
        None if duration(low) <= value <= duration(high) else f"must be between {low} and {high}"
    )


def one_of(*names: str) -> Callable[[str], str | None]:
    """A check for names, with a guess at what was meant."""

    def check(value: str) -> str | None:
        return None if value in names else f"is not one of {', '.join(names)}{meant(value, names)}"

    return check


def not_empty(value: str) -> str | None:
    """A check for names of one's own."""
    return None if value else "must not be empty"


def web_address(value: str) -> str | None:
    """A check for http(s) URLs without credentials."""
    try:
        parts = urlsplit(value)
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "must be a URL that begins with https:// (or http:// for a local one)"
    return "must not contain credentials" if parts.username or parts.password else None


def proxy_address(value: Secret) -> str | None:
    """A check for an HTTP proxy."""
    try:
        parts = urlsplit(value.reveal())
        (parts.hostname or "").encode("idna")
        whole = parts.scheme == "http" and parts.hostname and parts.port and parts.path in {"", "/"}
    except ValueError:
        whole = False
    return (
        None
        if whole
        else "must look like http://proxy.example:3128 or http://user:password@proxy.example:3128"
    )


def duration(value: object) -> timedelta:
    """Read "20s", "500ms", "2m" or "1h". Raises ValueError that says so."""
    match = (
        re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|h)", value.strip())
        if isinstance(value, str)
        else None
    )
    if match is None:
        raise ValueError(f'must be a duration like "20s", "500ms" or "2m", not {value!r}')
    return timedelta(seconds=float(match[1]) * UNITS[match[2]])


def meant(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """What was probably meant, as the end of a message; empty where nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
