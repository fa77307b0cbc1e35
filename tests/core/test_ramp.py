"""A provider that has not proved itself is asked by few, then by twice as many each round."""

from datetime import timedelta

from outboxd.core.outcome import Ambiguous, Cancelled, Failed, Failure, Rejected, Returned, Sent, Throttled
from outboxd.core.ramp import FIRST, IN_A_ROW, Ramp, after

FAILURE = Failure("transient", "x")


def full() -> Ramp:
    return Ramp(20, width=20)


def through(ramp: Ramp, *outcomes) -> Ramp:
    for outcome in outcomes:
        ramp = after(ramp, outcome)
    return ramp


def test_the_width_doubles_with_each_round_of_answers_up_to_the_threads():
    widths, ramp = [], Ramp(20)
    for _ in range(5):
        widths.append(ramp.width)
        ramp = through(ramp, *[Sent("id")] * ramp.width)
    assert widths == [FIRST, 4, 8, 16, 20]


def test_a_refusal_is_an_answer_too():
    assert after(Ramp(20), Rejected(FAILURE)).width == FIRST + 1


def test_too_many_requests_start_again_from_the_first_width():
    assert after(full(), Throttled(FAILURE, timedelta(seconds=1))).width == FIRST


def test_failures_in_a_row_start_again_and_keep_it_there():
    down = through(full(), *[Ambiguous(FAILURE)] * IN_A_ROW)
    assert down.width == FIRST
    assert through(down, *[Failed(FAILURE)] * 50).width == FIRST


def test_single_failures_among_answers_change_nothing():
    ramp = through(full(), *[Ambiguous(FAILURE), Failed(FAILURE), Sent("id")] * 50)
    assert ramp.width == 20


def test_what_was_not_asked_proves_nothing():
    assert through(Ramp(20), Returned(), Cancelled()) == Ramp(20)
    assert through(Ramp(20, failures=2), Returned()).failures == 2
