"""What an account has used: requests of this second, emails of this UTC day and month; and the headers that tell."""

import collections
from datetime import UTC, datetime
from typing import Final

from outboxd.sink.options import SinkOptions

WINDOW: Final = 1.0  # seconds of the rate limit, fixed and aligned


class Meter:
    """Not thread-safe: its owner holds a lock. Limits come with each question, for they change while it runs."""

    def __init__(self) -> None:
        self._window = (0, 0)  # number, requests in it
        self._used: collections.Counter[str] = collections.Counter()

    def take_request(self, limit: int | None, now: float) -> bool:
        """Count one request; whether it is within the limit. A batch is one."""
        if limit is None:
            return True
        window = int(now / WINDOW)
        current, used = self._window
        self._window = (window, used + 1 if current == window else 1)
        return self._window[1] <= limit

    def exceeded(self, options: SinkOptions, wanted: int, now: float) -> str | None:
        """The quota that `wanted` more recipients would break: "daily-quota", "monthly-quota" or None."""
        for limit, period, kind in (
            (options.daily_quota, _day(now), "daily-quota"),
            (options.monthly_quota, _month(now), "monthly-quota"),
        ):
            if limit is not None and self._used[period] + wanted > limit:
                return kind
        return None

    def use(self, recipients: int, now: float) -> None:
        """So many addresses of to, cc and bcc were accepted."""
        self._used[_day(now)] += recipients
        self._used[_month(now)] += recipients

    def headers(self, options: SinkOptions, now: float, *, sending: bool) -> dict[str, str]:
        """Those of every answer; of a sending call also the used (not the remaining) quota."""
        headers: dict[str, str] = {}
        if sending:
            headers["x-resend-monthly-quota"] = str(self._used[_month(now)])
            if options.daily_quota is not None:
                headers["x-resend-daily-quota"] = str(self._used[_day(now)])
        if options.rate_limit is not None and options.rate_headers:
            left = max(0, options.rate_limit - self._window[1])
            headers |= {
                "ratelimit-limit": str(options.rate_limit),
                "ratelimit-policy": f"{options.rate_limit};w=1",
                "ratelimit-remaining": str(left),
                "ratelimit-reset": "1",
            }
        return headers


def _day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")


def _month(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m")
