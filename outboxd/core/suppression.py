"""Suppressions: who gets no email, and the lines of a CSV file that say so. Pure.

`read` turns lines of a file into entries, or into a `BadLine` that says what is wrong without showing any value. A file
written by `outboxd suppressions export` comes back as it was, but for what has expired and for `created_at`: that says
when a row was written to this list, so that it is not read. A cell that a spreadsheet would take for a formula is written
with a ' before it, and read without.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from outboxd.core.address import AddressError, normalise

REASONS: Final = (
    "hard_bounce",
    "soft_bounce_persistent",
    "spam_complaint",
    "feedback_loop",
    "unsubscribe",
    "gdpr",
    "fraud",
    "admin",
)
COLUMNS: Final = ("address", "scope", "reason", "source", "cause", "expires_at", "created_at", "metadata")
MAX_NAME_CHARACTERS: Final = 100  # of a scope or source
MAX_CAUSE_CHARACTERS: Final = 1_000
MAX_METADATA_CHARACTERS: Final = 4_096
_AS_ADDRESS: Final = frozenset({"address", "email", "e-mail", "email_address"})
_KEPT_FROM_SPREADSHEETS: Final = re.compile("'+[=+\\-@\t\r\n]")
_UNDECODED: Final = re.compile("[\udc80-\udcff]")  # what the error handler `surrogateescape` makes of a byte
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A normalised address that an email must not go to, the gravest reason why, and the scope that says so."""

    address: str
    reason: str
    scope: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One suppression to be written. The address is normalised; `expires_at` None is for ever."""

    address: str
    reason: str
    scope: str = "all"
    source: str = "import"
    cause: str | None = None
    expires_at: datetime | None = None
    metadata: str | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not taken, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Expired:
    """A line that is right but has expired: there is nothing to write."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What an import did so far: rows that are new, that were changed, that were there already; expired and bad lines.

    `unknown_scopes` are some of the scopes in these rows that no queue or type with a policy has.
    """

    added: int = 0
    changed: int = 0
    kept: int = 0
    expired: int = 0
    bad: int = 0
    unknown_scopes: frozenset[str] = frozenset()

    @property
    def done(self) -> int:
        """Records looked at."""
        return self.added + self.changed + self.kept + self.expired + self.bad


class ColumnsError(ValueError):
    """The file's header cannot be understood; nothing was read."""


def read(
    lines: Iterable[str],
    *,
    now: datetime,
    defaults: Mapping[str, str],
    address_column: str | None = None,
    delimiter: str = ",",
) -> Iterator[tuple[int, Entry | Expired | BadLine]]:
    """Each record with the number of its last line, from 1.

    The first record is a header where one of its cells is `address` or `email` (or `address_column`); without one,
    the first cell of each record is the address. `defaults` fill cells that are empty or missing. With
    `address_column` all other columns are ignored. Bytes of the file that are not UTF-8 are expected as the error handler
    `surrogateescape` leaves them; a cell with one is bad. Raises `ColumnsError` for a header that names unknown columns.
    """
    reader = csv.reader(lines, delimiter=delimiter)
    columns: Mapping[str, int] | None = None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield reader.line_num, BadLine("cannot be read as CSV: does a quote close?")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if columns is None:
            found = _header(cells, address_column)
            columns = found or {"address": 0}
            if found:
                continue
        yield reader.line_num, entry(cells, columns, defaults, now=now)


def entry(
    cells: list[str], columns: Mapping[str, int], defaults: Mapping[str, str], *, now: datetime
) -> Entry | Expired | BadLine:
    """One record as an entry, or why it is none."""

    def cell(name: str) -> str:
        place = columns.get(name)
        text = _as_written(cells[place]).strip() if place is not None and place < len(cells) else ""
        if _UNDECODED.search(text):
            raise ValueError(f"{name}: is not UTF-8; convert the file first, such as with iconv")
        return text or defaults.get(name, "")

    try:
        found = Entry(
            address=_address(cell("address")),
            reason=_reason(cell("reason")),
            scope=_short("scope", cell("scope") or "all", MAX_NAME_CHARACTERS),
            source=_short("source", cell("source") or "import", MAX_NAME_CHARACTERS),
            cause=_short("cause", cell("cause"), MAX_CAUSE_CHARACTERS) or None,
            expires_at=_instant(cell("expires_at")),
            metadata=_metadata(cell("metadata")),
        )
    except ValueError as error:
        return BadLine(str(error))
    return Expired() if found.expires_at is not None and found.expires_at <= now else found


def refused(defaults: Mapping[str, str], *, now: datetime) -> tuple[str, str] | None:
    """The field whose default every line that needs it would be refused for, and why; None where there is none."""
    found = entry([], {}, {"address": "ada@example.org", "reason": REASONS[0], **defaults}, now=now)
    if isinstance(found, Entry):
        return None
    if isinstance(found, Expired):
        return "expires_at", "has passed"
    field, _, why = found.reason.partition(": ")
    return field, why


def instant(text: str) -> datetime:
    """An ISO 8601 instant; one without an offset is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _header(cells: list[str], address_column: str | None) -> dict[str, int]:
    names = [cell.strip().lower() for cell in cells]
    if address_column is not None:
        if address_column.strip().lower() not in names:
            raise ColumnsError("the first line has no column of the name given for the address")
        return {"address": names.index(address_column.strip().lower())}
    if not _AS_ADDRESS & set(names):
        return {}
    names = ["address" if name in _AS_ADDRESS else name for name in names]
    unknown = sorted(set(names) - set(COLUMNS) - {""})
    if unknown:
        raise ColumnsError(
            f"unknown columns: {', '.join(unknown)}; known: {', '.join(COLUMNS)}."
            " To take addresses only, name their column: --address-column"
        )
    return {name: place for place, name in enumerate(names) if name}


def _as_written(text: str) -> str:
    return text[1:] if _KEPT_FROM_SPREADSHEETS.match(text) else text


def _address(text: str) -> str:
    if not text:
        raise ValueError("address: is missing")
    try:
        return normalise(text)
    except (AddressError, UnicodeError):
        _refuse_address()


def _refuse_address() -> NoReturn:
    raise ValueError("address: is not an address")


def _reason(text: str) -> str:
    if text not in REASONS:
        raise ValueError(f"reason: must be one of {', '.join(REASONS)}" if text else "reason: is missing")
    return text


def _short(name: str, text: str, most: int) -> str:
    if len(text) > most or _UNSTORABLE.search(text):
        raise ValueError(f"{name}: has more than {most} characters, or one that cannot be stored")
    return text


def _instant(text: str) -> datetime | None:
    if text in {"", "infinity", "never"}:
        return None
    try:
        return instant(text)
    except ValueError:
        raise ValueError("expires_at: is not an instant in ISO 8601") from None


def _metadata(text: str) -> str | None:
    if not text:
        return None
    try:
        found = json.loads(_short("metadata", text, MAX_METADATA_CHARACTERS))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "\\u0000" in text or "\\ud" in text.lower():
        raise ValueError("metadata: is not a JSON object that can be stored")
    return text
