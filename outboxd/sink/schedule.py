"""`scheduled_at`: an instant in ISO 8601 (milliseconds at most, as Resend wants it), or "in 5 minutes"."""

import re
from datetime import datetime, timedelta
from typing import Final

AHEAD: Final = timedelta(days=30)
TOO_FINE: Final = re.compile(r"\.\d{4,}")
FROM_NOW: Final = re.compile(r"in (\d{1,5}) ?(s|sec|second|m|min|minute|h|hour|d|day)s?", re.IGNORECASE)
SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def instant(given: object, now: datetime) -> datetime | None:
    """When it means; None where it means nothing to us."""
    if not isinstance(given, str) or TOO_FINE.search(given):
        return None
    if (match := FROM_NOW.fullmatch(given.strip())) is not None:
        return now + timedelta(seconds=int(match[1]) * SECONDS[match[2][0].lower()])
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None
