"""What Resend refuses about a batch as such, and how it answers: strict is all or nothing, permissive sorts."""

import json
from typing import Final

from outboxd.sink.ask import Ask
from outboxd.sink.reply import Problem

MOST_ITEMS: Final = 100
MODES: Final = frozenset({"strict", "permissive"})


def problem_with_batch(ask: Ask, mode: str) -> Problem | None:
    """What is wrong before any item is looked at."""
    if mode not in MODES:
        return 422, "validation_error", "The `x-batch-validation` header must be `strict` or `permissive`."
    if not ask.listed:
        return 422, "validation_error", "The `request.body` field must be an `array`."
    if not 1 <= len(ask.items) <= MOST_ITEMS:
        return 422, "validation_error", f"The batch must hold between 1 and {MOST_ITEMS} emails."
    return None


def batch_answer(provider_ids: list[str], problems: dict[int, Problem], mode: str) -> bytes:
    """The ids of what was accepted, in the order of the items; permissive also says what was not, by index."""
    answer: dict[str, object] = {"data": [{"id": provider_id} for provider_id in provider_ids]}
    if mode == "permissive":
        answer["errors"] = [
            {"index": index, "message": message} for index, (_, _, message) in sorted(problems.items())
        ]
    return json.dumps(answer, separators=(",", ":")).encode()
