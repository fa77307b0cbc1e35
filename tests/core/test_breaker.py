"""The breaker opens where the provider is ill and nowhere else, and one probe at a time finds out when it is well."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.core.breaker import (
    Breaker,
    News,
    after,
    after_probe,
    gathered,
    illness,
    with_probe,
    without_probe,
)
from outboxd.core.outcome import (
    Ambiguous,
    Cancelled,
    Failed,
    Failure,
    Paused,
    Rejected,
    Returned,
    Sent,
    SentAll,
    Throttled,
    Unresolvable,
)

T = datetime(2026, 3, 29, 0, 59, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ILL = Ambiguous(Failure("ambiguous", "internal error", status=500))
REFUSED = Failed(Failure("transient", "connection refused"))
FAILURE = Failure("message", "x", status=422)
NOT_ILL = (
    Rejected(FAILURE), Throttled(FAILURE, SECOND), Paused(FAILURE), Failed(FAILURE, transient=False),
    Unresolvable(FAILURE), Ambiguous(Failure("ambiguous", "in flight", status=409)),
    Failed(Failure("transient", "locked", status=409)), Returned(), Cancelled(),
)  # fmt: skip


def told(breaker: Breaker, *outcomes, at: datetime = T) -> Breaker:
    return after(breaker, gathered(outcomes), now=at)


def opened(at: datetime = T) -> Breaker:
    return told(Breaker(), *[ILL] * 10, at=at)


@pytest.mark.parametrize("outcome", NOT_ILL, ids=lambda outcome: type(outcome).__name__)
def test_what_does_not_say_that_the_provider_is_ill_never_opens_it(outcome):
    assert illness(outcome) is None
    assert told(Breaker(), *[outcome] * 1000) == Breaker()


def test_the_tenth_failure_within_a_minute_opens_it_and_names_the_cause():
    nine = told(Breaker(), *[ILL] * 9)
    assert nine.state == "closed"
    ten = told(nine, REFUSED, at=T + 59 * SECOND)
    assert (ten.state, ten.opened_at, ten.cause) == ("open", T + 59 * SECOND, "connection refused")
    assert ten.probe_at == T + 89 * SECOND


def test_failures_older_than_a_minute_are_forgotten():
    assert told(told(Breaker(), *[ILL] * 9), ILL, at=T + 60 * SECOND).state == "closed"


def test_a_success_takes_one_off():
    nine = told(Breaker(), *[ILL] * 9)
    assert told(nine, Sent("id"), ILL).state == "closed"
    assert told(nine, SentAll(("a", "b")), ILL, ILL).state == "open"
    assert told(Breaker(), *[ILL, Sent("id")] * 500).state == "closed"


def test_what_was_under_way_when_it_opened_changes_nothing():
    assert told(opened(), Sent("id"), *[ILL] * 50, at=T + SECOND) == opened()


def test_one_probe_is_taken_after_the_pause_and_the_next_after_as_long_again():
    early = with_probe(opened(), now=T + 29 * SECOND)
    assert early == opened()
    first = with_probe(opened(), now=T + 30 * SECOND)
    assert (first.state, first.probes) == ("half_open", 1)
    assert with_probe(first, now=T + 59 * SECOND) == first
    assert with_probe(first, now=T + 60 * SECOND).probes == 2


def test_a_probe_is_due_where_the_clock_went_back_behind_its_pause():
    assert with_probe(opened(), now=T - SECOND).probes == 1
    assert with_probe(opened(), now=T).probes == 0


def test_a_failed_probe_opens_it_for_as_long_again_and_the_outage_goes_on():
    probed = with_probe(opened(), now=T + 30 * SECOND)
    again = after_probe(probed, REFUSED, now=T + 40 * SECOND)
    assert (again.state, again.opened_at, again.probe_at) == ("open", T, T + 70 * SECOND)


@pytest.mark.parametrize("outcome", [Sent("id"), *NOT_ILL[:6]], ids=lambda outcome: type(outcome).__name__)
def test_any_answer_to_a_probe_closes_it_and_clears_the_count(outcome):
    probed = with_probe(opened(), now=T + 30 * SECOND)
    assert after_probe(probed, outcome, now=T + 31 * SECOND) == Breaker()


def test_a_probe_that_asked_nothing_is_followed_by_another_soon():
    probed = with_probe(opened(), now=T + 30 * SECOND)
    free = without_probe(probed, 1, now=T + 30 * SECOND)
    assert (free.state, free.probes, free.probe_at) == ("open", 0, T + 31 * SECOND)
    assert without_probe(opened(), 1, now=T) == opened()


def test_a_probe_of_which_what_it_found_is_out_of_the_way_is_followed_by_another_at_once():
    now = T + 30 * SECOND
    free = without_probe(with_probe(opened(), now=now), 1, now=now, due_in=timedelta(0))
    assert (free.state, free.probes, free.probe_at) == ("open", 0, now)
    assert with_probe(free, now=now).probes == 1


def test_a_probe_that_comes_back_after_the_next_was_taken_makes_no_third():
    first = with_probe(opened(), now=T + 30 * SECOND)
    second = with_probe(first, now=T + 60 * SECOND)
    assert without_probe(second, 1, now=T + 60.5 * SECOND) == second
    assert without_probe(second, 2, now=T + 61 * SECOND).state == "open"


STEPS = st.lists(
    st.tuples(st.floats(0, 40), st.lists(st.sampled_from([ILL, REFUSED, Sent("id"), *NOT_ILL]), max_size=12)),
    max_size=60,
)


@given(STEPS)
def test_it_is_open_only_after_ten_failures_within_a_minute_more_than_successes(steps):
    breaker, now, failures = Breaker(), T, []
    for seconds, outcomes in steps:
        now += timedelta(seconds=seconds)
        failures += [now] * sum(illness(outcome) is not None for outcome in outcomes)
        breaker = told(breaker, *outcomes, at=now)
        assert len(breaker.failed_at) <= breaker.threshold
        assert list(breaker.failed_at) == sorted(breaker.failed_at)
        if breaker.state == "open":
            assert breaker.opened_at == now
            assert sum(at > now - 60 * SECOND for at in failures) >= 10
            return


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["take", "ill", "idle"])), max_size=80))
def test_probes_never_begin_closer_than_the_pause_however_they_end(steps):
    breaker, now, taken = opened(), T, []
    for seconds, step in steps:
        now += timedelta(seconds=seconds)
        if step == "ill" and breaker.state == "half_open":
            breaker = after_probe(breaker, ILL, now=now)
        elif step == "take":
            before, breaker = breaker, with_probe(breaker, now=now)
            taken += [now] * (breaker.probes > before.probes)
    assert all(later - earlier >= breaker.open_for for earlier, later in pairwise(taken))


@given(st.lists(st.sampled_from([ILL, Sent("id"), *NOT_ILL]), max_size=40))
def test_news_of_many_is_the_same_as_one_after_the_other_while_it_stays_closed(outcomes):
    wide = replace(Breaker(), threshold=100)
    one_by_one = wide
    for outcome in outcomes:
        one_by_one = told(one_by_one, outcome)
    assert told(wide, *outcomes) == one_by_one


def test_no_news_is_nothing():
    assert gathered([]) == News()
