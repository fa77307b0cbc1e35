"""Limits on real Postgres under a clock that the machine owns: what was granted never exceeds any true sliding window.

Emails to one to three mailboxes, in claims of several; asked again, handed back, and left alone by a daemon that died.
"""

from datetime import timedelta

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from limiting import HOUR, MINUTE, NOON, give_back, grant, most_within, subject

from outboxd.core.limits import Limit

MAILBOXES = ("ada@a.example", "bob@a.example", "cy@b.example")
LIMITS = (
    Limit("recipient", None, 2, HOUR, frozenset({"reset"})),
    Limit("provider_minute", "a.example", 3, MINUTE),
    Limit("queue", "transactional", 5, MINUTE),
)
SPANS = st.sampled_from([0, 0.004, 1, 20, 59, 61, 1800, 3602])


class Granting(RuleBasedStateMachine):
    conn: psycopg.Connection

    @initialize()
    def begin(self) -> None:
        self.conn.execute("truncate outboxd.recipient_count, outboxd.window_count")
        self.now, self.ids = NOON, 0
        self.emails: dict[int, tuple[tuple[str, ...], str]] = {}
        self.times: dict[int, list] = {}
        self.free: dict[int, object] = {}

    @rule(seconds=SPANS)
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(
        wanted=st.lists(
            st.tuples(
                st.lists(st.sampled_from(MAILBOXES), min_size=1, max_size=3, unique=True),
                st.sampled_from(["welcome", "welcome", "reset"]),
            ),
            min_size=1,
            max_size=5,
        ),
        again=st.booleans(),
    )
    def some_are_claimed(self, wanted: list[tuple[list[str], str]], again: bool) -> None:  # noqa: FBT001
        ids = [id_ for id_ in self.emails if again][:2]
        for recipients, type_ in wanted:
            self.ids += 1
            self.emails[self.ids] = (tuple(recipients), type_)
            ids.append(self.ids)
        for verdict in grant(self.conn, [self.subject(id_) for id_ in ids], *LIMITS, now=self.now):
            if verdict.granted:
                assert verdict.granted_at == self.now
                self.times.setdefault(verdict.id, []).append(self.now)
            else:
                assert verdict.free_at > self.now, "held by a limit that is free"
                assert {
                    "recipient": MAILBOXES,
                    "provider_minute": ("a.example",),
                    "queue": ("transactional",),
                }[verdict.kind].count(verdict.key)

    @rule(newest=st.integers(1, 4))
    def some_are_handed_back(self, newest: int) -> None:
        """Those that were granted once and never asked for."""
        unused = [id_ for id_, times in self.times.items() if len(times) == 1][-newest:]
        give_back(self.conn, [self.subject(id_) for id_ in unused], *LIMITS)
        for id_ in unused:
            del self.times[id_], self.emails[id_]

    def subject(self, id_: int):
        recipients, type_ = self.emails[id_]
        granted_at = self.times[id_][-1] if self.times.get(id_) else None
        return subject(id_, *recipients, type=type_, granted_at=granted_at)

    @invariant()
    def no_true_sliding_window_holds_more_than_its_limit(self) -> None:
        """Whichever of its asks an email arrived by."""
        if not hasattr(self, "times"):
            return
        for arrival in (0, -1):
            at = {id_: times[arrival] for id_, times in self.times.items()}
            for mailbox in MAILBOXES:
                mine = [
                    at[id_] for id_ in at
                    if mailbox in self.emails[id_][0] and self.emails[id_][1] != "reset"
                ]  # fmt: skip
                assert most_within(mine, HOUR) <= 2, (mailbox, mine)
            units = [
                at[id_] for id_ in at for mailbox in self.emails[id_][0] if mailbox.endswith("@a.example")
            ]
            assert most_within(units, MINUTE) <= 3, units
            assert most_within(at.values(), MINUTE) <= 5

    def teardown(self) -> None:
        """Once all windows have passed, somebody who comes is granted at once: nothing is held for ever."""
        if hasattr(self, "times"):
            self.now += 2 * HOUR
            (verdict,) = grant(self.conn, [subject(10**6, *MAILBOXES)], *LIMITS, now=self.now)
            assert verdict.granted


def test_no_history_of_claims_exceeds_a_limit(conn):
    class OnThisDatabase(Granting):
        pass

    OnThisDatabase.conn = conn
    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(
            stateful_step_count=20,
            max_examples=40,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
