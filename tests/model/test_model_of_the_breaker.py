"""Three daemons, one breaker and a provider that falls ill and heals: who asks when, and what opens and closes it.

Against a plain list of failures; the machine owns the clock.
"""

from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outboxd.core.breaker import (
    SOON,
    Breaker,
    after,
    after_probe,
    gathered,
    illness,
    with_probe,
    without_probe,
)
from outboxd.core.outcome import (
    Ambiguous,
    Failed,
    Failure,
    Outcome,
    Paused,
    Rejected,
    Returned,
    Sent,
    Throttled,
)

START = datetime(2026, 3, 28, 22, tzinfo=UTC)
ILL = Ambiguous(Failure("ambiguous", "oops", status=500))
AWAY = Failed(Failure("transient", "refused"))
FINE = Sent("00000000-0000-0000-0000-000000000001")
BUSY = Ambiguous(Failure("ambiguous", "in flight", status=409))
NO = Rejected(Failure("message", "no", status=422))
SLOW = Throttled(Failure("throttle", "slow", status=429), timedelta(seconds=1))
SHUT = Paused(Failure("pause", "no key", status=401))
ANSWERS = st.lists(
    st.sampled_from([ILL, ILL, AWAY, FINE, BUSY, NO, SLOW, SHUT, Returned()]), min_size=1, max_size=8
)


class OneBreaker(RuleBasedStateMachine):
    @initialize(threshold=st.integers(1, 6), span=st.sampled_from([10, 60]), pause=st.sampled_from([0.5, 30]))
    def begin(self, threshold: int, span: int, pause: float) -> None:
        self.now = START
        self.breaker = Breaker(
            threshold=threshold, span=timedelta(seconds=span), open_for=timedelta(seconds=pause)
        )
        self.against: list[datetime] = []
        self.probes: list[datetime] = []
        self.vain: timedelta | None = None  # until the next probe, where the last one asked for nothing
        self.opened: datetime | None = None

    @rule(seconds=st.sampled_from([0.1, 0.6, 5, 31, 61]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(outcomes=ANSWERS)
    def a_daemon_tells_what_it_was_answered(self, outcomes: list[Outcome]) -> None:
        """In one batch: what came of asks that began before it opened, or while it was closed."""
        was = self.breaker
        self.breaker = after(was, gathered(outcomes), now=self.now)
        if was.state != "closed":
            assert self.breaker == was, "old asks moved an open breaker"
            return
        self.against = [at for at in self.against if at > self.now - was.span]
        left = 0
        for outcome in outcomes:
            if illness(outcome) is not None:
                left += 1
            elif isinstance(outcome, Sent):
                left, self.against = (left - 1, self.against) if left else (0, self.against[1:])
        self.against = (self.against + [self.now] * left)[-was.threshold :]
        opens = left > 0 and len(self.against) >= was.threshold
        assert (self.breaker.state == "open") == opens
        if opens:
            self.opened, self.probes = self.now, []
            assert self.breaker.probe_at == self.now + was.open_for

    @precondition(lambda self: self.breaker.state != "closed")
    @rule()
    def a_daemon_looks_for_a_probe(self) -> None:
        was = self.breaker
        self.breaker = with_probe(was, now=self.now)
        if self.breaker is was:
            assert self.now < was.probe_at
            return
        last = self.probes[-1] if self.probes else self.opened
        least = was.open_for if self.vain is None else min(self.vain, was.open_for)
        assert self.now >= last + least, "two probes within one pause"
        self.vain = None
        self.probes.append(self.now)

    @precondition(lambda self: self.breaker.state == "half_open")
    @rule(outcome=st.sampled_from([ILL, AWAY, FINE, BUSY, NO, SLOW, SHUT]))
    def a_probe_is_answered(self, outcome: Outcome) -> None:
        self.breaker = after_probe(self.breaker, outcome, now=self.now)
        assert (self.breaker.state == "open") == (illness(outcome) is not None)
        if self.breaker.state == "closed":
            self.against = []
        else:
            assert self.breaker.probe_at == self.now + self.breaker.open_for

    @precondition(lambda self: self.breaker.state == "half_open")
    @rule(due_in=st.sampled_from([SOON, timedelta(0)]))
    def a_probe_asks_for_nothing(self, due_in: timedelta) -> None:
        """It found nothing, or what it found was stopped and is out of the way."""
        self.breaker = without_probe(self.breaker, self.breaker.probes, now=self.now, due_in=due_in)
        self.vain = due_in
        assert self.breaker.state == "open"

    @invariant()
    def it_holds_what_the_list_holds(self) -> None:
        if self.breaker.state == "closed":
            assert list(self.breaker.failed_at) == self.against
            assert len(self.breaker.failed_at) < self.breaker.threshold or self.breaker.threshold == 0

    @invariant()
    def its_facts_fit_its_state(self) -> None:
        closed = self.breaker.state == "closed"
        facts = (self.breaker.opened_at, self.breaker.probe_at, self.breaker.cause)
        assert all(fact is None for fact in facts) if closed else None not in facts
        assert self.breaker.probes >= 0
        assert len(self.breaker.failed_at) <= self.breaker.threshold

    @invariant()
    def it_never_stays_shut_for_longer_than_one_pause(self) -> None:
        if self.breaker.state != "closed":
            assert self.breaker.probe_at <= self.now + self.breaker.open_for

    def teardown(self) -> None:
        """Once the provider is well, one pause and one probe close it, whoever died with a probe in hand."""
        if not hasattr(self, "breaker") or self.breaker.state == "closed":
            return
        self.now += self.breaker.open_for
        self.breaker = with_probe(self.breaker, now=self.now)
        assert self.breaker.state == "half_open"
        self.breaker = after_probe(self.breaker, FINE, now=self.now)
        assert self.breaker.state == "closed"
        assert self.breaker.failed_at == ()


TestOneBreaker = OneBreaker.TestCase
TestOneBreaker.settings = settings(stateful_step_count=40, max_examples=60, deadline=None)
