"""What looks at a clock tell."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.core.clock import DRIFT, TOLERANCE, Look, Step, further_behind, step

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ASKED = 1000.0


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def at_once(clock: float, elapsed: float) -> Look:
    """A look that took no time."""
    return Look(later(clock), ASKED + elapsed, ASKED + elapsed)


def watched(looks: Iterable[Look]) -> Step | None:
    """The first step that is found."""
    first, *more = looks
    for look in more:
        if found := step(first, look):
            return found
        first = further_behind(first, look)
    return None


DELAYS = st.floats(0, 30)


@given(st.floats(-DRIFT / 2, DRIFT / 2), st.lists(st.tuples(st.floats(0, 1e6), DELAYS, DELAYS), min_size=2))
def test_a_true_clock_never_steps_however_long_answers_take(slewed, delays):
    """Its answer lies somewhere between the question and the arrival."""
    looks, elapsed = [], 0.0
    for pause, asking, answering in delays:
        asked, read, elapsed = (
            (elapsed := elapsed + pause),
            (elapsed := elapsed + asking),
            elapsed + answering,
        )
        looks.append(Look(later(read * (1 + slewed)), ASKED + asked, ASKED + elapsed))
    assert watched(looks) is None


@pytest.mark.parametrize(("ahead", "stepped"), [(0.1, False), (0.12, True), (3600, True), (-30, False)])
def test_only_a_step_ahead_beyond_the_tolerance_counts(ahead, stepped):
    found = step(at_once(0, 0), at_once(10 + ahead, 10))
    assert (found is not None) == stepped
    if found:
        assert found.expected == found.earliest == later(10)
        assert found.tolerance == TOLERANCE + timedelta(milliseconds=10)


def test_a_step_may_have_been_as_long_as_answers_took_longer():
    found = step(Look(NOON, ASKED, ASKED + 2), Look(later(3600), ASKED + 10, ASKED + 13))
    assert (found.earliest, found.expected) == (later(8), later(13))


@pytest.mark.parametrize(("ahead", "after"), [(0.09, 2), (0.03, 4), (0.011, 11)])
def test_steps_that_are_too_small_to_be_seen_add_up(ahead, after):
    looks = [at_once(n + n * ahead, n) for n in range(after + 1)]
    assert watched(looks[:-1]) is None
    assert watched(looks).seen_at == NOON


def test_a_step_back_is_where_the_next_one_ahead_is_compared_with():
    assert watched([at_once(0, 0), at_once(-29, 1), at_once(1, 2)]).seen_at == later(-29)


def test_a_clock_that_is_slewed_for_a_day_is_no_step():
    day = 86400
    assert step(at_once(0, 0), at_once(day * 1.0005, day)) is None
