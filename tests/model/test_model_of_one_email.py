"""One email's whole life against a provider that keeps its promise about keys: asks of every kind, crashes, time.

The machine owns the clock. Each ask goes through the real gates, the real reading of the answer and the real decision;
what settle and reclaim write is followed here in a few lines.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from factories import HOME
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ideal_provider import KINDS, LATER, SOONER, IdealProvider

from outboxd.core.email import Claimed
from outboxd.core.outcome import Limited, Parked, Returned
from outboxd.core.retry import CAP, KEY_LIFE, Policy, Step, decide, decide_probe
from outboxd.core.wire import key
from outboxd.delivery.gates import held_by

START = datetime(2026, 3, 28, 22, tzinfo=UTC)
BODY = b'{"n":1}'
MOST_DELAY = timedelta(minutes=15)  # that an answer may ask for
ILL = {"refused connection", "lost on the way", "500, nothing done", "answer lost", "500, though done"}
ENDS = frozenset({"sent", "dead", "unknown", "expired", "cancelled"})


class OneEmail(RuleBasedStateMachine):
    @initialize(
        most=st.sampled_from([1, 2, 6]),
        backoff=st.sampled_from(["exponential", "fixed"]),
        give_up=st.sampled_from([timedelta(0), timedelta(hours=6), timedelta(hours=30)]),
        own=st.none() | st.integers(1, 5),
        bad=st.booleans(),
        expires=st.none() | st.sampled_from([timedelta(minutes=10), timedelta(hours=20)]),
    )
    def begin(self, most, backoff, give_up, own, bad, expires) -> None:
        self.now = self.due = START
        self.policy = Policy(most, backoff, timedelta(seconds=5), give_up)
        self.provider = IdealProvider()
        self.bad = frozenset({1}) if bad else frozenset()
        self.step: Step | None = None
        self.unknown_noes = 0
        self.email = Claimed(
            id=1, uid=UUID(int=1), lease_id=UUID(int=2), queue_id=1, queue="transactional", type="welcome", lane=0,
            priority=1, scheduled_at=START, claimed_at=START, payload="{}",
            expires_at=expires and START + expires, max_attempts=own, trace=None, sender="hi@shop.example", alone=False,
            attempts=0, crash_streak=0, first_asked_at=None, first_failed_at=None, ambiguous=False, transient=True,
            cancelled=False, accepted_as=None, ended=False, generation=1, frozen=HOME,
        )  # fmt: skip

    def ended(self) -> bool:
        return self.step is not None and self.step.name in ENDS

    def waits(self) -> bool:
        return not self.ended() and self.now >= self.due

    @rule(span=LATER)
    def time_passes(self, span: timedelta) -> None:
        self.now += span

    @precondition(lambda self: not self.ended())
    @rule(kind=KINDS, draw=st.sampled_from([0.0, 0.5, 0.999]), probing=st.booleans(), span=SOONER)
    def is_asked(self, kind: str, draw: float, probing: bool, span: timedelta) -> None:  # noqa: FBT001
        self.now = max(self.now, self.due) + span
        before = self.email
        outcome = held_by(before, now=self.now)
        asked = outcome is None
        if outcome is None:
            outcome = self.provider.ask(kind, key(before.uid, 1), BODY, now=self.now, bad=self.bad)
        step = (decide_probe if probing else decide)(
            outcome, before, self.policy, now=self.now, draw=lambda: draw
        )
        self.written(step, asked=asked)
        assert step.attempts - before.attempts in {0, 1}
        assert step.ambiguous >= before.ambiguous, "an open answer is forgotten"
        assert timedelta(0) <= step.due_in <= max(CAP * self.policy.base, MOST_DELAY)
        if self.email.max_attempts is None and self.policy.max_attempts <= step.attempts != before.attempts:
            assert self.ended() or step.due_in >= CAP * self.policy.base / 2, "too fast for the slow phase"
        if asked and kind == "unknown 4xx" and not probing:
            self.unknown_noes += 1
        assert self.unknown_noes < 2 or self.ended(), "asked again after a second no in unknown words"
        assert self.unknown_noes < 2 or self.step.name in {"dead", "unknown"}
        if probing and asked and kind in {*ILL, "unknown 4xx"}:
            assert (step.name, step.attempts) == ("again", before.attempts), (
                "a failed probe cost its email something"
            )

    @precondition(lambda self: not self.ended())
    @rule(asks=st.integers(2, 7), span=SOONER)
    def is_asked_through_an_outage(self, asks: int, span: timedelta) -> None:
        for _ in range(asks):
            if not self.ended():
                self.is_asked("refused connection", 0.5, probing=False, span=span)

    @precondition(lambda self: not self.ended())
    @rule(span=SOONER)
    def is_refused_in_unknown_words(self, span: timedelta) -> None:
        self.is_asked("unknown 4xx", 0.5, probing=False, span=span)

    @precondition(waits)
    @rule(kind=st.sampled_from(["in order", "lost on the way", "late"]))
    def is_asked_by_a_daemon_that_dies(self, kind: str) -> None:
        if held_by(self.email, now=self.now) is None:
            self.provider.ask(kind, key(self.email.uid, 1), BODY, now=self.now, bad=self.bad)
        self.email = replace(
            self.email,
            ambiguous=True,
            first_asked_at=self._first_asked(),
            crash_streak=self.email.crash_streak + 1,
        )

    @precondition(waits)
    @rule(outcome=st.sampled_from([Returned(), Parked("type", "x"), Limited("recipient", "a", START)]))
    def is_not_asked_for_anothers_sake(self, outcome) -> None:
        step = decide(outcome, self.email, self.policy, now=self.now, draw=lambda: 0.5)
        assert (step.name, step.attempts, step.ambiguous) == (
            "again",
            self.email.attempts,
            self.email.ambiguous,
        )

    @precondition(lambda self: self.email.attempts > 1 and not self.ended())
    @rule()
    def is_taken_back(self) -> None:
        self.email = replace(self.email, cancelled=True)

    @precondition(lambda self: self.provider.under_way)
    @rule(place=st.integers(0, 9))
    def an_old_ask_arrives(self, place: int) -> None:
        self.provider.arrive(place, now=self.now)

    def written(self, step: Step, *, asked: bool) -> None:
        self.step, self.due = step, self.now + step.due_in
        failed_at = self.now if step.attempts and asked else None
        self.email = replace(
            self.email, attempts=step.attempts, ambiguous=step.ambiguous, transient=self.email.transient and step.transient,
            first_asked_at=self._first_asked() if asked else self.email.first_asked_at,
            first_failed_at=self.email.first_failed_at or failed_at,
        )  # fmt: skip

    def _first_asked(self) -> datetime:
        first = self.email.first_asked_at
        reopened = first is not None and not self.email.ambiguous and first < self.now - KEY_LIFE
        return self.now if first is None or reopened else first

    @invariant()
    def it_is_accepted_at_most_once(self) -> None:
        assert len(self.provider.accepted.get(1, ())) <= 1

    @invariant()
    def every_ask_has_the_same_bytes(self) -> None:
        assert all(len(bodies) == 1 for bodies in self.provider.bodies.values())

    @invariant()
    def what_it_ended_as_is_true(self) -> None:
        if self.step is None or not self.ended():
            return
        accepted = bool(self.provider.accepted.get(1))
        assert (self.step.name != "sent") or (accepted and self.step.provider_id == str(UUID(int=2)))
        assert self.step.name in {"sent", "unknown"} or not accepted, f"accepted, and {self.step.name}"
        assert self.step.name != "unknown" or self.step.ambiguous

    @invariant()
    def its_own_count_of_attempts_is_obeyed(self) -> None:
        if self.email.max_attempts is not None:
            assert self.email.attempts <= self.email.max_attempts

    def teardown(self) -> None:
        """Once the provider is well, it ends within two asks: nothing waits for ever."""
        if not hasattr(self, "email"):
            return
        for _ in range(2):
            if not self.ended():
                self.is_asked("in order", 0.5, probing=False, span=timedelta(0))
        assert self.ended(), self.step
        self.what_it_ended_as_is_true()
        self.it_is_accepted_at_most_once()


TestOneEmail = OneEmail.TestCase
TestOneEmail.settings = settings(stateful_step_count=30, max_examples=150, deadline=None)
