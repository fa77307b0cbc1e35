"""What the local Resend does, as one value; `/_sink/control` replaces parts of it while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

FAULTS: Final = {
    "422": "refuses the email for a bad field",
    "400": "the same, with the other status that Resend is seen to use",
    "domain": "the from-domain is not verified (403)",
    "revoked": "the API key is invalid (401)",
    "429": "too many requests, with retry-after",
    "429-bare": "too many requests, without any hint",
    "429-odd": "too many requests, with a retry-after that is none, has passed, or is less than nothing",
    "daily-quota": "the daily quota is used up (429)",
    "monthly-quota": "the monthly quota is used up (429)",
    "500": "an internal error as JSON",
    "503": "unavailable, as JSON",
    "html-502": "a gateway's page instead of JSON",
    "407": "a proxy's page that asks for a password",
    "redirect": "points somewhere else (307)",
    "hang": "no answer at all",
    "slow": "accepts, but answers after ARGUMENT seconds (2)",
    "reset": "cuts the connection before reading the email",
    "accept-reset": "accepts, then cuts the connection",
    "accept-hang": "accepts, then never answers",
    "drip": "accepts, and answers one byte per half second",
    "truncated": "accepts, and answers half of the JSON",
    "empty-200": "accepts, and answers nothing with status 200",
    "no-id": "accepts, and answers JSON without an id",
    "bad-id": "accepts, and answers an id that is no UUID",
    "fewer-ids": "accepts a batch, and answers one id too few",
    "not-json": "accepts, and answers text with status 200",
    "huge": "accepts, and answers megabytes",
    "gzip": "accepts, and answers compressed, whatever was asked for",
    "no-http": "accepts, and answers what is not HTTP",
    "http10": "accepts, and answers as HTTP/1.0, without a length",
    "early-hints": "accepts, and sends a 103 before its answer",
    "two-lengths": "accepts, and answers with a length, a wrong one, and in chunks",
    "bad-chunk": "accepts, and answers in chunks of no size",
    "conflict": "claims that the key was used with another body (409)",
    "concurrent": "claims that the key is in flight (409)",
}
AFTER_ACCEPTING: Final = frozenset(
    {
        "slow",
        "accept-reset",
        "accept-hang",
        "drip",
        "truncated",
        "empty-200",
        "no-id",
        "bad-id",
        "fewer-ids",
        "not-json",
        "huge",
        "gzip",
        "no-http",
        "http10",
        "early-hints",
        "two-lengths",
        "bad-chunk",
    }
)

KEY_MODES: Final = {
    "full": "may do everything",
    "sending": "may send and nothing else",
    "restricted": "may not even send (401)",
    "revoked": "is invalid (401)",
    "revoked-400": "is invalid, with the other status that Resend is seen to use",
    "inactive": "is not active (403)",
    "suspended": "is suspended (403)",
}


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
    rate_headers: bool = True
    daily_quota: int | None = None
    monthly_quota: int | None = None
    think_time: float = 0.0
    key_ttl: float = 24 * 3600.0
    verified_domains: frozenset[str] | None = None
    key_mode: str = "full"
    key_modes: Mapping[str, str] = field(default_factory=dict)  # by API key, where it is not the account's
    edge_block: bool = False
    clock_offset: float = 0.0
    ledger_path: str | None = None
    keep: int = 10_000
    seed: int = 1
    faults: tuple[Fault, ...] = ()
    counted_faults: bool = True  # whether `fault+KIND.N@…` is met; without N it always is

    def __post_init__(self) -> None:
        """Raises ValueError for a mode that is none."""
        for mode in (self.key_mode, *self.key_modes.values()):
            if mode not in KEY_MODES:
                raise ValueError(f"unknown key mode {mode!r}; known are {', '.join(KEY_MODES)}")


def parse_fault(text: str) -> Fault:
    """`KIND[:PROBABILITY[:ARGUMENT]]`. Raises ValueError that names the kinds."""
    kind, *numbers = text.split(":")
    if kind not in FAULTS:
        raise ValueError(f"unknown fault {kind!r}; known are {', '.join(FAULTS)}")
    values = [float(number) for number in numbers]
    return Fault(kind, *values)


def parse_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options from JSON. Raises ValueError or TypeError for what cannot be one; unknown names pass."""
    parsed = dict(changes)
    if "faults" in parsed:
        parsed["faults"] = tuple(parse_fault(text) for text in parsed["faults"])
    if parsed.get("verified_domains") is not None:
        parsed["verified_domains"] = frozenset(parsed["verified_domains"])
    for name in ("rate_limit", "daily_quota", "monthly_quota", "keep"):
        if parsed.get(name) is not None and type(parsed[name]) is not int:
            raise ValueError(f"{name} is a whole number or null")
    for name in ("think_time", "key_ttl", "clock_offset"):
        if name in parsed:
            parsed[name] = float(parsed[name])
    return parsed
