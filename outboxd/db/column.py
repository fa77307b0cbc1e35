"""Columns of many values as array literals, for statements that take a row per email.

The driver's own arrays cost a microsecond or two for each value, which is most of what it costs to settle an email.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

Plain = int | float | bool | UUID | datetime | None


def column(values: Iterable[Plain]) -> str:
    """An array literal of values whose text needs no quotes. The statement casts it to the array's type."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
