"""Taking recipients out of an email, because they are suppressed. Pure and deterministic.

An email whose every `to` is suppressed does not go. Else the suppressed are taken out of to, cc and bcc, whoever
else was to read it still does. What is taken out is decided once, before the first ask, and stored with what the
request is frozen with: `without` gives the same object for the same list for as long as the key may be remembered.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from outboxd.core.address import normalise, split

FIELDS: Final = ("to", "cc", "bcc")

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class NobodyLeft:
    """Every `to` is suppressed: the email ends as suppressed."""


@dataclass(frozen=True, slots=True)
class Goes:
    """The email may go without these normalised addresses: sorted, each once; empty where none is suppressed."""

    removed: tuple[str, ...] = ()


def review(email: Json, suppressed: Collection[str]) -> NobodyLeft | Goes:
    """What becomes of the payload, given the suppressed among its recipients (normalised addresses).

    Raises `AddressError` where a recipient is no address.
    """
    if not suppressed:
        return Goes()
    if all(_address(entry) in suppressed for entry in _entries(email, "to")):
        return NobodyLeft()
    found = {_address(entry) for field in FIELDS for entry in _entries(email, field)}
    return Goes(tuple(sorted(found & set(suppressed))))


def without(email: Json, removed: Collection[str]) -> Json:
    """The payload without those addresses; the same object where there are none.

    Order and spelling of what stays are kept, a list stays a list, and a cc or bcc that is empty afterwards is left
    out. A `to` is never emptied: raises ValueError instead.
    """
    if not removed:
        return email
    kept: Json = {}
    for field, value in email.items():
        left = [entry for entry in _entries(email, field) if _address(entry) not in removed]
        if field not in FIELDS or len(left) == len(_entries(email, field)):
            kept[field] = value
        elif left:
            kept[field] = left
        elif field == "to":
            raise ValueError("to: nobody would be left")
    return kept


def _entries(email: Json, field: str) -> list[object]:
    if field not in FIELDS:
        return []
    value = email.get(field)
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _address(entry: object) -> str:
    return normalise(split(entry)[1]) if isinstance(entry, str) else ""
