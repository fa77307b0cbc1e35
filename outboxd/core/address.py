"""Email addresses: taken apart, and brought to the one form in which they are compared. Pure.

`split` takes `a@b.example` or `Name <a@b.example>` as Resend does: the name may hold any letters, quoted or not.
`normalise` gives the key under which suppression and limits know a mailbox: all of it in lower case, the domain
as A-labels (IDNA). Dots and plus tags stay: whether they matter is the mailbox provider's business.

What cannot be an address is refused with an AddressError that says why. Letters outside ASCII before the @ are
refused by policy: Resend does not take them.
"""

import functools
import re
from typing import Final, NoReturn

MAX_CHARACTERS: Final = 254  # RFC 5321: a path of 256 with its angle brackets
MAX_TEXT_CHARACTERS: Final = 1_000  # name and address together, one header field
CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FORBIDDEN: Final = re.compile(r'[\s<>"(),:;\\\[\]]')
_QUOTED_PAIR: Final = re.compile(r"\\(.)")


class AddressError(ValueError):
    """The text is no address that can be sent to; the message says what is wrong with it."""


def split(text: str) -> tuple[str, str]:
    """Display name (empty if there is none) and address, both as written.

    Nothing is guessed: text with several addresses, comments, group syntax or quotes before the @ is refused.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise AddressError(f"is longer than {MAX_TEXT_CHARACTERS} characters")
    if CONTROL.search(text):
        raise AddressError("holds a control character or line break")
    text = text.strip(" ")
    if not text.endswith(">"):
        return "", _plain(text)
    name, opening, address = text[:-1].rpartition("<")
    if not opening:
        raise AddressError("has a > without a <")
    return _unquoted(name.strip(" ")), _plain(address)


def normalise(address: str) -> str:
    """The key of a mailbox, for a bare address: lower case, with an ASCII domain."""
    return to_ascii(address).lower()


def domain(address: str) -> str:
    """The domain of a bare address, in lower case and as A-labels."""
    return normalise(address).rpartition("@")[2]


@functools.lru_cache(maxsize=4096)
def bare(text: str) -> str:
    """The address in a field's text, with its domain as A-labels."""
    return to_ascii(split(text)[1])


@functools.lru_cache(maxsize=1024)
def sender_domain(sender: str | None) -> str:
    """The domain of a `from` field, bare or with a name, in lower case and as A-labels; empty where there is none.

    What cannot be written as A-labels stays as it is.
    """
    found = (sender or "").rstrip("> ").rpartition("@")[2].lower()
    try:
        return found if found.isascii() else domain(f"a@{found}")
    except AddressError:
        return found


def to_ascii(address: str) -> str:
    """The bare address with its domain as A-labels; one that is ASCII already comes back as written."""
    _plain(address)
    if address.isascii():
        return address
    return _validated(address)


def _plain(address: str) -> str:
    local, at, host = address.rpartition("@")
    if not (local and at and host):
        raise AddressError("is not of the form name@domain")
    if "@" in local or _FORBIDDEN.search(address) or CONTROL.search(address):
        raise AddressError("holds a character that an address cannot have, or more than one address")
    if len(address) > MAX_CHARACTERS:
        raise AddressError(f"is longer than {MAX_CHARACTERS} characters")
    return address


def _unquoted(name: str) -> str:
    if not name.startswith('"'):
        if re.search(r'[<>"]|\S@\S', name):
            raise AddressError("has a display name that looks like part of another address")
        return name
    if len(name) < 2 or not name.endswith('"') or not _closes(name[1:-1]):  # noqa: PLR2004 - a pair of quotes
        raise AddressError("has a display name whose quotes do not close")
    return _QUOTED_PAIR.sub(r"\1", name[1:-1])


def _closes(quoted: str) -> bool:
    """Whether the text between two quotes has no quote or backslash that is not escaped itself."""
    rest = _QUOTED_PAIR.sub("", quoted)
    return '"' not in rest and "\\" not in rest


def _validated(address: str) -> str:
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415 - 46 ms, for few addresses

    try:
        found = validate_email(
            address, allow_smtputf8=False, check_deliverability=False, globally_deliverable=False
        )
    except EmailNotValidError as error:
        _refuse(error)
    if found.ascii_email is None:
        raise AddressError("has letters outside ASCII before the @")
    return found.ascii_email


def _refuse(error: Exception) -> NoReturn:
    raise AddressError(str(error)) from error
