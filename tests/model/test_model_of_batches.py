"""A few emails that travel together, against the same provider: split, crashed, taken back, asked again, late.

Grouping, gates, reading, decision and splitting are the real ones; what settle and reclaim write of a batch is followed
here in a few lines.
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil, log2
from uuid import UUID

from factories import HOME
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ideal_provider import KINDS, LATER, SOONER, IdealProvider

from outboxd.core.batch import Batch, Parcel, decide_together, groups, packed, quarters
from outboxd.core.email import Claimed
from outboxd.core.outcome import Outcome, Returned, SentAll
from outboxd.core.retry import KEY_LIFE, Policy, Step, decide
from outboxd.core.wire import key
from outboxd.delivery.gates import judge

START = datetime(2026, 3, 28, 22, tzinfo=UTC)
ENDS = frozenset({"sent", "dead", "unknown", "cancelled", "expired", "suppressed"})
POLICY = Policy(9, "fixed", timedelta(seconds=5), timedelta(hours=6))
MOST_ROUNDS = 200  # of asks until all that is left has ended; a batch of eight needs some forty


def body_of(email: Claimed) -> bytes:
    return b'{"n":%d}' % email.id


@dataclass
class Waiting:
    parcel: Parcel
    due: datetime


class Batches(RuleBasedStateMachine):
    @initialize(count=st.integers(2, 8), bad=st.frozensets(st.integers(0, 7), max_size=2))
    def begin(self, count: int, bad: frozenset[int]) -> None:
        self.now, self.uids = START, 0
        self.single, self.together = IdealProvider(), IdealProvider(batch=True)
        self.together.accepted, self.together.refused = self.single.accepted, self.single.refused
        self.bad = bad
        self.ended: dict[int, Step] = {}
        self.unknown_noes: Counter[int] = Counter()
        self.waiting: list[Waiting] = []
        self.fixed: dict[str, tuple[int, ...]] = {}
        self.count = count
        self.pack([self.email(id_) for id_ in range(count)])

    def email(self, id_: int) -> Claimed:
        return Claimed(
            id=id_, uid=UUID(int=id_ + 1), lease_id=UUID(int=2), queue_id=1, queue="transactional", type="welcome",
            lane=0, priority=1, scheduled_at=START, claimed_at=START, payload="{}", expires_at=None, max_attempts=None,
            trace=None, sender="hi@shop.example", alone=False, attempts=0, crash_streak=0, first_asked_at=None,
            first_failed_at=None, ambiguous=False, transient=True, cancelled=False, accepted_as=None, ended=False,
            generation=1, frozen=HOME,
        )  # fmt: skip

    def pack(self, emails: list[Claimed]) -> None:
        for group in groups(emails, lambda _: POLICY):
            self.wait(group, [body_of(one) for one in group], group[0].attempts, group[0].transient)

    def wait(self, emails: list[Claimed], items: list[bytes], attempts: int, transient: bool) -> None:  # noqa: FBT001
        if len(emails) == 1:
            self.waiting.append(Waiting(Parcel(tuple(emails)), self.now))
        elif emails:
            self.uids += 1
            batch = Batch(UUID(int=self.uids), packed(items), HOME, attempts=attempts, transient=transient)
            self.fixed[batch.key] = tuple(one.id for one in emails)
            self.waiting.append(Waiting(Parcel(tuple(emails), batch), self.now))

    @rule(span=LATER)
    def time_passes(self, span: timedelta) -> None:
        self.now += span

    def due(self) -> list[Waiting]:
        return [one for one in self.waiting if one.due <= self.now]

    @precondition(lambda self: self.waiting)
    @rule(asks=st.lists(st.tuples(KINDS, st.sampled_from([0, 0, 1]), SOONER), min_size=1, max_size=6))
    def some_are_asked(self, asks: list[tuple[str, int, timedelta]]) -> None:
        for kind, place, span in asks:
            if self.waiting:
                self.one_is_asked(kind, place, span)
                self.each_is_in_one_place()

    @precondition(lambda self: self.unknown_noes and self.waiting)
    @rule(place=st.integers(0, 9), span=SOONER)
    def one_is_refused_in_unknown_words_again(self, place: int, span: timedelta) -> None:
        self.one_is_asked("unknown 4xx", place, span)

    def one_is_asked(self, kind: str, place: int, span: timedelta) -> None:
        """Some time after it fell due."""
        one = self.waiting.pop(place % len(self.waiting))
        self.now = max(self.now, one.due) + span
        parcel = one.parcel
        if parcel.batch is not None and parcel.batch.rejected:
            for emails, items in quarters(parcel):
                self.wait(emails, items, parcel.batch.attempts, parcel.batch.transient)
            return
        stopped = judge(parcel, HOME, frozenset(), now=self.now)
        if stopped is not None and stopped.members:
            steps = [
                decide(outcome, email, POLICY, now=self.now, draw=lambda: 0.5)
                for outcome, email in zip(stopped.members, parcel.emails, strict=True)
            ]
            self.taken_apart(parcel, steps)
            return
        outcome = self.ask(kind, parcel) if stopped is None else stopped.outcome
        self.settled(one, outcome, asked=stopped is None)

    def ask(self, kind: str, parcel: Parcel) -> Outcome | SentAll:
        if kind == "unknown 4xx":
            self.unknown_noes.update(email.id for email in parcel.emails)
        if parcel.batch is None:
            first = parcel.first
            return self.single.ask(kind, key(first.uid, 1), body_of(first), now=self.now, bad=self.bad)
        return self.together.ask(kind, parcel.batch.key, parcel.batch.body, now=self.now, bad=self.bad)

    def settled(self, one: Waiting, outcome: Outcome | SentAll, *, asked: bool) -> None:
        parcel = one.parcel
        if parcel.batch is None:
            assert not isinstance(outcome, SentAll)
            email = parcel.first
            step = decide(outcome, email, POLICY, now=self.now, draw=lambda: 0.5)
            known = replace(
                email, attempts=step.attempts, ambiguous=step.ambiguous, transient=email.transient and step.transient,
                first_asked_at=first_asked(email, self.now) if asked else email.first_asked_at,
                first_failed_at=email.first_failed_at or (self.now if step.attempts else None),
            )  # fmt: skip
            self.one_step(step, known)
            return
        asked_at = self.now if asked else None
        steps = decide_together(outcome, parcel, POLICY, now=self.now, asked_at=asked_at, draw=lambda: 0.5)
        assert len(steps) == len(parcel.emails)
        if steps[0].name != "kept":
            self.taken_apart(parcel, steps)
            return
        assert all(step == steps[0] for step in steps), "members wait differently"
        batch, step = parcel.batch, steps[0]
        undecided = type(outcome).__name__ == "Ambiguous"
        self.waiting.append(
            Waiting(
                replace(
                    parcel,
                    batch=replace(
                        batch, attempts=step.attempts, ambiguous=batch.ambiguous or step.ambiguous,
                        transient=batch.transient and step.transient, rejected=step.rejected,
                        first_asked_at=first_asked(batch, self.now) if asked else batch.first_asked_at,
                        first_failed_at=batch.first_failed_at or (self.now if step.attempts else None),
                        last_ambiguous_at=self.now if undecided else batch.last_ambiguous_at,
                    ),
                ),
                self.now + step.due_in,
            )
        )  # fmt: skip

    def taken_apart(self, parcel: Parcel, steps: list[Step]) -> None:
        assert parcel.batch is not None
        back = []
        for email, step in zip(parcel.emails, steps, strict=True):
            if step.name == "again":
                assert not parcel.batch.ambiguous, "a batch with an open answer was taken apart"
                back.append(replace(email, attempts=step.attempts))
            else:
                self.one_step(step, email)
        self.pack(back)

    def one_step(self, step: Step, email: Claimed) -> None:
        if step.name in ENDS:
            assert email.id not in self.ended, "it ended twice"
            self.ended[email.id] = step
        else:
            self.waiting.append(Waiting(Parcel((email,)), self.now + step.due_in))

    @precondition(due)
    @rule(kind=st.sampled_from(["in order", "lost on the way", "late"]), place=st.integers(0, 9))
    def its_daemon_dies(self, kind: str, place: int) -> None:
        due = self.due()
        one = due[place % len(due)]
        parcel = one.parcel
        rejected = parcel.batch is not None and parcel.batch.rejected
        if not rejected and judge(parcel, HOME, frozenset(), now=self.now) is None:
            self.ask(kind, parcel)
        if parcel.batch is None:
            email = parcel.first
            known = replace(email, ambiguous=True, first_asked_at=first_asked(email, self.now))
            one.parcel = replace(parcel, emails=(known,))
        else:
            batch = parcel.batch
            known_batch = replace(
                batch, ambiguous=batch.ambiguous or not rejected, first_asked_at=first_asked(batch, self.now),
                last_ambiguous_at=batch.last_ambiguous_at if rejected else self.now,
            )  # fmt: skip
            one.parcel = replace(parcel, batch=known_batch)

    @precondition(due)
    @rule(place=st.integers(0, 9))
    def its_lease_runs_short(self, place: int) -> None:
        due = self.due()
        one = due[place % len(due)]
        self.waiting.remove(one)
        self.settled(one, Returned(), asked=False)

    @precondition(lambda self: len(self.waiting) > 1)
    @rule(place=st.integers(0, 9), member=st.integers(0, 9))
    def one_is_taken_back(self, place: int, member: int) -> None:
        one = self.waiting[place % len(self.waiting)]
        emails = list(one.parcel.emails)
        taken = member % len(emails)
        emails[taken] = replace(emails[taken], cancelled=True)
        one.parcel = replace(one.parcel, emails=tuple(emails))

    @precondition(lambda self: self.together.under_way or self.single.under_way)
    @rule(place=st.integers(0, 9))
    def an_old_ask_arrives(self, place: int) -> None:
        provider = self.together if self.together.under_way else self.single
        provider.arrive(place, now=self.now)

    @invariant()
    def each_is_accepted_at_most_once(self) -> None:
        assert all(len(times) <= 1 for times in self.single.accepted.values()), self.single.accepted

    @invariant()
    def each_is_in_one_place(self) -> None:
        waiting = [email.id for one in self.waiting for email in one.parcel.emails]
        assert sorted([*waiting, *self.ended]) == list(range(self.count))

    @invariant()
    def a_key_has_one_body_and_one_order_of_members(self) -> None:
        for provider in (self.single, self.together):
            assert all(len(bodies) == 1 for bodies in provider.bodies.values())
        for one in self.waiting:
            if one.parcel.batch is not None:
                assert self.fixed[one.parcel.batch.key] == tuple(email.id for email in one.parcel.emails)

    @invariant()
    def what_they_ended_as_is_true(self) -> None:
        for id_, step in self.ended.items():
            accepted = bool(self.single.accepted.get(id_))
            assert step.name != "sent" or (accepted and step.provider_id == str(UUID(int=id_ + 1)))
            assert step.name in {"sent", "unknown"} or not accepted, (id_, step.name)

    def teardown(self) -> None:
        """Once the provider is well, all of them end, and only bad ones or open ones do not end as sent."""
        if not hasattr(self, "waiting"):
            return
        for _ in range(MOST_ROUNDS):
            if self.waiting:
                self.waiting.sort(key=lambda one: one.due)
                self.one_is_asked("in order", 0, timedelta(0))
        while self.together.under_way:
            self.together.arrive(0, now=self.now)
        assert not self.waiting, "somebody waits for ever"
        self.each_is_in_one_place()
        self.each_is_accepted_at_most_once()
        self.what_they_ended_as_is_true()
        for id_, step in self.ended.items():
            at_fault = id_ in self.bad or id_ in self.single.refused or step.attempts >= POLICY.max_attempts
            assert step.name != "dead" or at_fault or self.unknown_noes[id_] >= 2, (id_, step)
            # Two of its batch, one of each half of it, and one once it is alone, which may be its first of its own.
            most = 3 + ceil(log2(self.count))
            assert self.unknown_noes[id_] <= most, "asked again after the last no in unknown words"


def first_asked(known: Claimed | Batch, now: datetime) -> datetime:
    first = known.first_asked_at
    return now if first is None or (not known.ambiguous and first < now - KEY_LIFE) else first


TestBatches = Batches.TestCase
TestBatches.settings = settings(stateful_step_count=20, max_examples=100, deadline=None)
