"""How long a pause lasts, and when equal message errors are taken for an account's."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from outboxd.core.pauses import (
    ACQUITTED,
    AFTER_MIDNIGHT,
    ENOUGH,
    JITTER,
    MIDNIGHT_LASTS,
    PROBE_EVERY,
    Streak,
    after_error,
    after_success,
    plan,
)

instants = st.integers(0, 20 * 366 * 86_400).map(
    lambda s: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)


class TestPlan:
    @given(instants, st.floats(0, 1, exclude_max=True), st.integers(-12, 12))
    def test_a_daily_quota_ends_soon_after_the_next_midnight_in_utc(self, now, draw, hours):
        from datetime import timezone

        local = now.astimezone(timezone(timedelta(hours=hours)))
        planned = plan("daily_quota", now=local, draw=lambda: draw)
        until = now + planned.lasts
        assert planned.probe_every is None
        assert planned.lasts > timedelta()
        today = datetime(now.year, now.month, now.day, tzinfo=UTC)
        if now - today < MIDNIGHT_LASTS:  # it may be yesterday's
            assert planned.lasts == MIDNIGHT_LASTS
        else:
            midnight = today + timedelta(days=1)
            assert midnight + AFTER_MIDNIGHT <= until <= midnight + AFTER_MIDNIGHT + JITTER

    def test_a_refusal_right_after_midnight_is_no_verdict_on_the_new_day(self):
        midnight = datetime(2026, 6, 1, tzinfo=UTC)
        assert plan("daily_quota", now=midnight + timedelta(seconds=3), draw=lambda: 0.5).lasts < timedelta(
            hours=1
        )
        assert plan("daily_quota", now=midnight - timedelta(seconds=1), draw=lambda: 0.0).lasts > timedelta(
            seconds=5
        )

    @given(st.sampled_from(sorted(PROBE_EVERY)), instants)
    def test_every_other_reason_lasts_until_a_probe_or_a_person_ends_it(self, reason, now):
        planned = plan(reason, now=now, draw=lambda: 0.5)
        assert (planned.lasts, planned.probe_every) == (None, PROBE_EVERY[reason])
        assert planned.probe_every > timedelta()


class Errors(RuleBasedStateMachine):
    """Against a plain list of what happened in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.streak = Streak()
        self.row: list[frozenset[int]] = []
        self.signature = ""
        self.fault: set[str] = set()

    @rule(
        signature=st.sampled_from(["a", "b"]), ids=st.frozensets(st.integers(1, 12), min_size=1, max_size=3)
    )
    def error(self, signature: str, ids: frozenset[int]) -> None:
        self.streak = after_error(self.streak, signature, ids)
        if signature != self.signature:
            self.signature, self.row = signature, []
        if len(self.row) < ENOUGH and not any(ids & known for known in self.row):
            self.row.append(ids)

    @rule()
    def success(self) -> None:
        if len(self.row) >= ENOUGH:
            self.fault.add(self.signature)
        self.streak = after_success(self.streak)
        self.signature, self.row = "", []

    @invariant()
    def enough_means_five_disjoint_ones_of_a_signature_that_was_not_acquitted(self) -> None:
        wanted = len(self.row) >= ENOUGH and self.signature not in self.fault
        assert self.streak.enough == wanted

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.streak.emails) <= ENOUGH
        assert len(self.streak.acquitted) <= ACQUITTED


TestErrors = Errors.TestCase
TestErrors.settings = settings(stateful_step_count=40, max_examples=60)


def test_asking_for_the_same_email_again_never_accuses_the_account():
    streak = Streak()
    for _ in range(20):
        streak = after_error(streak, "a", frozenset({1, 2}))
    assert not streak.enough
