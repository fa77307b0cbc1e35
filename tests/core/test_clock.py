"""What two looks at a clock tell."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.core.clock import TOLERANCE, Look, step

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ASKED = 1000.0


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@given(st.floats(0, 1e6), st.floats(0, 30), st.floats(0, 30))
def test_a_true_clock_never_steps_however_long_answers_take(elapsed, first, second):
    """Its answer lies somewhere between the question and the arrival."""
    at = later(elapsed + second)
    assert step(Look(later(first), ASKED), at, ASKED + elapsed + max(first, second) + 30) is None


@pytest.mark.parametrize(("ahead", "stepped"), [(0.9, False), (1.2, True), (3600, True), (-30, False)])
def test_only_a_step_ahead_beyond_the_tolerance_counts(ahead, stepped):
    found = step(Look(NOON, ASKED), later(10 + ahead), ASKED + 10)
    assert (found is not None) == stepped
    if found:
        assert found.expected == later(10)
        assert found.tolerance == TOLERANCE + timedelta(milliseconds=10)


def test_a_clock_that_is_slewed_for_a_day_is_no_step():
    day = 86400
    assert step(Look(NOON, ASKED), later(day * 1.0005), ASKED + day) is None
