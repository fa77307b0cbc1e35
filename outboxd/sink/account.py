"""What an API key may do: by the account's mode, or by a mode of that key's own while keys are rotated."""

from collections.abc import Mapping

from outboxd.sink.options import SinkOptions
from outboxd.sink.reply import REFUSED, Problem


def problem_with_key(headers: Mapping[str, str], options: SinkOptions, *, sending: bool) -> Problem | None:
    """Why this key may not do this. A sending-only key may do nothing but send."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return REFUSED["no-key"]
    if not token.startswith("re_"):
        return REFUSED["revoked"]
    mode = options.key_modes.get(token, options.key_mode)
    if mode == "full" or (mode == "sending" and sending):
        return None
    return REFUSED["restricted" if mode == "sending" else mode]
