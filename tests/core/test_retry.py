"""What follows from an outcome: phases, jitter, caps, and the sticky ambiguity."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from factories import HOME

from outboxd.core.email import Claimed, Grant
from outboxd.core.outcome import (
    Ambiguous,
    Cancelled,
    Ended,
    Expired,
    Failed,
    Failure,
    Limited,
    Parked,
    Paused,
    Rejected,
    Returned,
    Sent,
    Throttled,
    Unresolvable,
)  # fmt: skip
from outboxd.core.retry import MOST_ATTEMPTS, RETRIES, Policy, Step, backoff, decide, key_has_expired

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WHY = Failure("transient", "refused")
ODD = Failed(Failure("unexpected", "no", "teapot", 418), transient=False)
PAGE = Failed(Failure("unexpected", "HTTP 404 with no error message", None, 404), transient=False)
POLICY = Policy(5, "exponential", timedelta(seconds=5), timedelta(hours=6))
EMAIL = Claimed(
    id=1, uid=UUID(int=1), lease_id=UUID(int=2), queue_id=1, queue="transactional", type="welcome", lane=0, priority=1,
    scheduled_at=NOW, claimed_at=NOW, payload="{}", expires_at=None, max_attempts=None, trace=None, sender="hi@shop.example", alone=False,
    attempts=0,
    crash_streak=0, first_asked_at=None, first_failed_at=None, ambiguous=False, transient=True, cancelled=False,
    accepted_as=None, ended=False, generation=1, frozen=HOME,
)  # fmt: skip


def step(outcome, *, draw=1.0, policy=POLICY, **email):
    return decide(outcome, replace(EMAIL, **email), policy, now=NOW, draw=lambda: draw)


@pytest.mark.parametrize(
    ("outcome", "name", "attempts"),
    [
        (Sent("re_1"), "sent", 1),
        (Failed(WHY), "again", 1),
        (Ambiguous(WHY), "again", 1),
        (Throttled(WHY, timedelta(seconds=7)), "again", 0),
        (Paused(WHY), "again", 0),
        (Returned(), "again", 0),
        (Rejected(WHY), "dead", 1),
        (Unresolvable(WHY), "unknown", 0),
        (Cancelled(), "cancelled", 0),
        (Expired(), "expired", 0),
        (Ended(), "drop", 0),
    ],
)
def test_each_outcome_has_its_step_and_burns_what_it_should(outcome, name, attempts):
    found = step(outcome)
    assert (found.name, found.attempts) == (name, attempts)


@pytest.mark.parametrize("outcome", [Rejected(WHY), Cancelled(), Expired(), Failed(WHY)])
def test_nothing_ends_as_certain_while_an_ask_is_open(outcome):
    assert step(outcome, ambiguous=True, max_attempts=1).name == "unknown"


def test_the_fast_phase_doubles_with_full_jitter():
    pauses = [backoff(POLICY, attempts, draw=lambda: 1.0).total_seconds() for attempts in (1, 2, 3, 4)]
    assert pauses == [5, 10, 20, 40]
    assert backoff(POLICY, 3, draw=lambda: 0.0) == timedelta(0)


def test_the_pause_never_passes_32_times_the_base():
    assert max(
        backoff(replace(POLICY, max_attempts=100), n, draw=lambda: 1.0) for n in range(1, 100)
    ) == timedelta(seconds=160)


def test_a_fixed_pause_is_fixed():
    assert backoff(replace(POLICY, backoff="fixed"), 4, draw=lambda: 0.3) == timedelta(seconds=5)


@pytest.mark.parametrize("kind", ["exponential", "fixed"])
def test_the_slow_phase_has_the_caps_pace_and_half_of_it_is_jitter(kind):
    policy = replace(POLICY, backoff=kind)
    least = [backoff(policy, attempts, draw=lambda: 0.0) for attempts in (5, 5_000)]
    most = [backoff(policy, attempts, draw=lambda: 1.0) for attempts in (5, 5_000)]
    assert (least, most) == ([timedelta(seconds=80)] * 2, [timedelta(seconds=160)] * 2)


@pytest.mark.parametrize(("kind", "seconds"), [("exponential", 160), ("fixed", 5)])
def test_an_applications_own_max_attempts_has_no_slow_pace(kind, seconds):
    found = step(Failed(WHY), attempts=7, max_attempts=9, policy=replace(POLICY, backoff=kind))
    assert found.due_in == timedelta(seconds=seconds)
    assert step(Failed(WHY), attempts=7, max_attempts=9, draw=0.0).due_in == timedelta(0)


def test_a_failure_is_counted_no_further_than_can_be_stored():
    found = step(Failed(WHY), attempts=MOST_ATTEMPTS, first_failed_at=NOW)
    assert (found.name, found.attempts) == ("again", MOST_ATTEMPTS)
    assert step(Sent("re_1"), attempts=MOST_ATTEMPTS).attempts < 2**15
    assert Step("kept", 2**15, ambiguous=False).attempts < 2**15


def test_after_the_fast_phase_a_transient_failure_goes_on_at_the_caps_pace():
    found = step(Failed(WHY), attempts=4, first_failed_at=NOW - timedelta(hours=5), draw=0.0)
    assert (found.name, found.due_in) == ("again", timedelta(seconds=80))


def test_the_slow_phase_ends_at_give_up_after():
    assert step(Failed(WHY), attempts=40, first_failed_at=NOW - timedelta(hours=6)).name == "dead"


def test_a_refusal_in_unknown_words_has_no_slow_phase():
    assert step(Failed(WHY, transient=False), attempts=4).name == "dead"
    assert step(Failed(WHY), attempts=4, transient=False).name == "dead"


def test_a_refusal_under_an_unknown_name_is_tried_once_more_and_no_oftener():
    assert (step(ODD).name, step(ODD).transient) == ("again", False)
    assert step(ODD, attempts=1, transient=False).name == "dead"
    assert step(ODD, attempts=1, transient=False, ambiguous=True).name == "unknown"


def test_failures_that_heal_leave_a_refusal_under_an_unknown_name_its_second_ask():
    assert step(ODD, attempts=3).name == "again"
    assert step(Failed(WHY), attempts=1, transient=False).name == "again"


def test_a_refusal_under_an_unknown_name_is_not_tried_beyond_the_count_of_attempts():
    assert step(ODD, max_attempts=1).name == "dead"
    assert step(ODD, policy=replace(POLICY, max_attempts=1)).name == "dead"


def test_a_refusal_without_an_errors_name_keeps_the_count_of_its_policy():
    assert step(PAGE, attempts=3, transient=False).name == "again"
    assert step(PAGE, attempts=4, transient=False).name == "dead"


def test_an_applications_own_max_attempts_is_a_plain_count():
    assert step(Failed(WHY), attempts=1, max_attempts=2).name == "dead"
    assert step(Failed(WHY), attempts=7, max_attempts=9).name == "again"


def test_what_the_provider_asks_for_is_the_least_pause():
    assert step(Failed(WHY, after=timedelta(seconds=90)), draw=0.0).due_in == timedelta(seconds=90)
    assert step(Throttled(WHY, timedelta(seconds=7)), draw=0.0).due_in == timedelta(seconds=7)


def test_a_key_expires_23_hours_after_an_open_ask_and_not_otherwise():
    old = NOW - timedelta(hours=23)
    assert key_has_expired(replace(EMAIL, ambiguous=True, first_asked_at=old), now=NOW)
    assert not key_has_expired(
        replace(EMAIL, ambiguous=True, first_asked_at=old + timedelta(seconds=1)), now=NOW
    )
    assert not key_has_expired(replace(EMAIL, ambiguous=False, first_asked_at=old), now=NOW)


def test_a_grant_is_of_all_copies_of_one_claimed_email_and_of_no_other():
    email, other = replace(EMAIL, grant=Grant()), replace(EMAIL, grant=Grant())
    copy = replace(email, cancelled=True)
    email.grant.at = NOW
    assert (copy.grant.at, other.grant.at) == (NOW, None)


UNASKED = [
    Returned(),
    Parked("type", "welcome"),
    Limited("provider_day", "gmail", NOW + timedelta(hours=1)),
    Limited("account_day", "default", NOW + timedelta(hours=1)),
]


@pytest.mark.parametrize("outcome", UNASKED, ids=lambda outcome: type(outcome).__name__)
def test_what_nobody_was_asked_about_keeps_its_place(outcome):
    assert (step(outcome).keeps_place, step(outcome).due_in) == (True, timedelta())


def test_what_has_an_open_answer_waits_for_a_quota_where_no_other_account_takes_it():
    """Another one has quota, but could not ask for it again."""
    used_up = Limited("account_month", "default", NOW + timedelta(hours=1))
    assert step(used_up).park == ("quota", "default/" + EMAIL.queue)
    found = step(used_up, ambiguous=True)
    assert (found.park, found.due_in, found.ambiguous) == (None, timedelta(hours=1), True)


@pytest.mark.parametrize(
    "outcome",
    [
        Failed(WHY),
        Ambiguous(WHY),
        Throttled(WHY, timedelta(seconds=7)),
        Paused(WHY),
        Limited("recipient", "ada@example.org", NOW + timedelta(hours=1)),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_what_was_asked_or_has_a_time_of_its_own_goes_behind_what_is_due_before_it(outcome):
    assert not step(outcome).keeps_place


def test_a_suspect_that_a_pause_holds_waits_a_minute_and_not_in_front():
    found = step(Parked("type", "welcome"), lane=-1)
    assert (found.keeps_place, found.due_in) == (False, timedelta(seconds=60))


@pytest.mark.parametrize("outcome", [Failed(WHY), Ambiguous(WHY)], ids=["failed", "ambiguous"])
@pytest.mark.parametrize(("lane", "park"), [(0, RETRIES), (-1, RETRIES), (7, None)])
def test_what_is_asked_again_waits_in_a_lane_of_its_own_unless_it_has_one(outcome, lane, park):
    assert step(outcome, lane=lane).park == park


def test_what_ends_has_no_lane():
    assert step(Failed(WHY), attempts=4, max_attempts=5).park is None
