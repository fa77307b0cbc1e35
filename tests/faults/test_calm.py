"""What a daemon may write once all has healed."""

import json

import pytest

from .calm import cries


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        (json.dumps({"level": "warning", "event": "listener lost its connection"}), []),
        (json.dumps({"level": "error", "event": "claiming failed; trying again"}), ["L6"]),
        ("Traceback (most recent call last):", ["L6"]),
    ],
)
def test_only_errors_and_what_is_no_line_of_a_log_are_complaints(line, rules):
    assert [found.rule for found in cries(f"{json.dumps({'level': 'info'})}\n{line}\n")] == rules
