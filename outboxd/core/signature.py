"""Equal errors under one name, so that a thousand dead letters are a handful of lines."""

import re
from typing import Final

from outboxd.core.outcome import Failure

LONGEST: Final = 120
VARIABLE: Final = re.compile(r"\S+@\S+|[`'\"][^`'\"]*[`'\"]|[0-9a-f]{8}-[0-9a-f-]{27}|\d+")


def signature(failure: Failure) -> str:
    """The failure without what differs from email to email: addresses, quoted parts, uuids and numbers."""
    message = VARIABLE.sub("…", failure.message)
    parts = [failure.kind, failure.name or "", str(failure.status or ""), message]
    return " ".join(" ".join(parts).split())[:LONGEST]
