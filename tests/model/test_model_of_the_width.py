"""How many ask at a time: a provider falls ill, throttles and heals, with asks under way that were begun before."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_model_of_the_breaker import AWAY, BUSY, FINE, ILL, NO, SHUT, SLOW

from outboxd.core.outcome import Cancelled, Ended, Expired, Outcome, Parked, Returned, SentAll, Suppressed
from outboxd.core.ramp import FIRST, IN_A_ROW, Ramp, after

UNASKED = [Cancelled(), Expired(), Returned(), Ended(), Parked("type", "x"), Suppressed("gdpr", "all")]


class Width(RuleBasedStateMachine):
    @initialize(most=st.integers(FIRST, 40))
    def begin(self, most: int) -> None:
        self.ramp, self.asking, self.in_a_row = Ramp(most), 0, 0

    @precondition(lambda self: self.asking < self.ramp.width)
    @rule()
    def as_many_as_may_ask(self) -> None:
        self.asking = self.ramp.width

    @rule(outcome=st.sampled_from(UNASKED))
    def one_is_not_asked(self, outcome: Outcome) -> None:
        assert after(self.ramp, outcome) == self.ramp

    @precondition(lambda self: self.asking)
    @rule(outcome=st.sampled_from([ILL, AWAY, BUSY]), times=st.integers(1, 4))
    def some_fail(self, outcome: Outcome, times: int) -> None:
        for _ in range(min(times, self.asking)):
            was = self.ramp
            self.ramp, self.in_a_row = after(was, outcome), self.in_a_row + 1
            self.asking -= 1
            assert self.ramp.width == (FIRST if self.in_a_row >= IN_A_ROW else was.width)

    @precondition(lambda self: self.asking)
    @rule(outcome=st.sampled_from([FINE, NO, SHUT, SentAll(("a",))]), times=st.integers(1, 40))
    def some_are_answered(self, outcome: Outcome | SentAll, times: int) -> None:
        for _ in range(min(times, self.asking)):
            was, self.in_a_row = self.ramp.width, 0
            self.ramp = after(self.ramp, outcome)
            self.asking -= 1
            assert self.ramp.width == min(self.ramp.most, was + 1)

    @precondition(lambda self: self.asking)
    @rule()
    def one_is_throttled(self) -> None:
        self.ramp, self.in_a_row = after(self.ramp, SLOW), 0
        self.asking -= 1
        assert self.ramp.width == FIRST

    @invariant()
    def it_is_never_less_than_the_first_nor_more_than_the_threads(self) -> None:
        assert FIRST <= self.ramp.width <= self.ramp.most

    def teardown(self) -> None:
        """Once the provider is well, full width comes back with an answer for each of it, and stays."""
        if not hasattr(self, "ramp"):
            return
        for _ in range(self.ramp.most):
            self.ramp = after(self.ramp, FINE)
        assert self.ramp.width == self.ramp.most


TestWidth = Width.TestCase
TestWidth.settings = settings(stateful_step_count=40, max_examples=60, deadline=None)
