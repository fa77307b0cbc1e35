"""What the local Resend does, as one value; `/_sink/control` replaces parts of it while it runs."""

from dataclasses import dataclass
from typing import Final

FAULTS: Final = {
    "422": "refuses the email for a bad field",
    "400": "the same, with the other status that Resend is seen to use",
    "domain": "the from-domain is not verified (403)",
    "revoked": "the API key is invalid (401)",
    "429": "too many requests, with retry-after",
    "429-bare": "too many requests, without any hint",
    "daily-quota": "the daily quota is used up (429)",
    "monthly-quota": "the monthly quota is used up (429)",
    "500": "an internal error as JSON",
    "503": "unavailable, as JSON",
    "html-502": "a gateway's page instead of JSON",
    "hang": "no answer at all",
    "slow": "accepts, but answers after ARGUMENT seconds (2)",
    "reset": "cuts the connection before reading the email",
    "accept-reset": "accepts, then cuts the connection",
    "accept-hang": "accepts, then never answers",
    "drip": "accepts, and answers one byte per half second",
    "truncated": "accepts, and answers half of the JSON",
    "empty-200": "accepts, and answers nothing with status 200",
    "no-id": "accepts, and answers JSON without an id",
    "not-json": "accepts, and answers text with status 200",
    "huge": "accepts, and answers megabytes",
    "conflict": "claims that the key was used with another body (409)",
    "concurrent": "claims that the key is in flight (409)",
}
AFTER_ACCEPTING: Final = frozenset(
    {"slow", "accept-reset", "accept-hang", "drip", "truncated", "empty-200", "no-id", "not-json", "huge"}
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault, for this share of all requests. `argument` is the kind's own number."""

    kind: str
    probability: float = 1.0
    argument: float | None = None


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """How the local Resend behaves. Times are in seconds; None switches a limit off."""

    host: str = "127.0.0.1"
    port: int = 8025
    rate_limit: int | None = 10
    daily_quota: int | None = None
    monthly_quota: int | None = None
    think_time: float = 0.0
    key_ttl: float = 24 * 3600.0
    verified_domains: frozenset[str] | None = None
    revoked: bool = False
    api_keys: frozenset[str] | None = None  # the only keys that are known; None: all that look like one
    ledger_path: str | None = None
    keep: int = 10_000
    seed: int = 1
    faults: tuple[Fault, ...] = ()


def parse_fault(text: str) -> Fault:
    """`KIND[:PROBABILITY[:ARGUMENT]]`. Raises ValueError that names the kinds."""
    kind, *numbers = text.split(":")
    if kind not in FAULTS:
        raise ValueError(f"unknown fault {kind!r}; known are {', '.join(FAULTS)}")
    values = [float(number) for number in numbers]
    return Fault(kind, *values)
