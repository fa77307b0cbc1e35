"""Requests for many: who travels together, in what order and bytes, and one end for all or for none."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.core.batch import (
    MOST,
    SETTLED_AFTER,
    Batch,
    Parcel,
    Rise,
    decide_together,
    groups,
    may_travel,
    packed,
    quarters,
    unpacked,
)
from outboxd.core.email import Claimed, Frozen
from outboxd.core.outcome import (
    Ambiguous,
    Cancelled,
    Expired,
    Failed,
    Failure,
    Limited,
    Parked,
    Paused,
    Rejected,
    Returned,
    SentAll,
    Throttled,
    Unresolvable,
)
from outboxd.core.retry import KEY_LIFE, Policy
from outboxd.core.wire import render

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOME = Frozen(1, "outboxd_uid", "default", "https://api.example")
POLICY = Policy(3, "fixed", timedelta(seconds=5), timedelta(hours=1))
ALONE = replace(POLICY, batch=False)
WHY = Failure("message", "Invalid `to` field.")


def email(id_: int, **fields) -> Claimed:
    values = {
        "id": id_, "uid": UUID(int=id_), "lease_id": UUID(int=0), "queue_id": 1, "queue": "transactional",
        "type": "welcome", "lane": 0, "priority": 1, "scheduled_at": NOW, "claimed_at": NOW, "payload": "{}",
        "expires_at": None, "max_attempts": None, "trace": None, "sender": "hi@shop.example", "alone": False,
        "attempts": 0, "crash_streak": 0, "first_asked_at": None, "first_failed_at": None, "ambiguous": False,
        "transient": True, "cancelled": False, "accepted_as": None, "ended": False, "generation": 1, "frozen": HOME,
    }  # fmt: skip
    return Claimed(**(values | fields))


emails = st.lists(
    st.builds(
        dict,
        type=st.sampled_from(["welcome", "secret"]),
        lane=st.sampled_from([-1, 0, 3]),
        priority=st.sampled_from([1, 5]),
        sender=st.sampled_from(["hi@shop.example", "Shop <hi@SHOP.example>", "x@other.example"]),
        attempts=st.sampled_from([0, 0, 2]),
        alone=st.sampled_from([False, False, True]),
        ambiguous=st.sampled_from([False, False, True]),
        suppressed=st.sampled_from([(), (), (("a@b.example", "unsubscribe", "all"),)]),
        expires_at=st.sampled_from([None, NOW + timedelta(hours=1), NOW + KEY_LIFE + timedelta(hours=1)]),
    ),
    max_size=250,
).map(lambda many: [email(n, **fields) for n, fields in enumerate(many)])


def policy_of(one: Claimed) -> Policy:
    return ALONE if one.type == "secret" else POLICY


class TestGroups:
    @given(emails)
    def test_every_email_is_in_one_group_and_groups_keep_the_order(self, given_emails):
        found = groups(given_emails, policy_of)
        assert sorted(one.id for group in found for one in group) == [one.id for one in given_emails]
        assert all([one.id for one in group] == sorted(one.id for one in group) for group in found)
        assert [group[0].id for group in found] == sorted(group[0].id for group in found)

    @given(emails)
    def test_groups_hold_1_to_100_that_may_travel_and_share_what_ends_them_together(self, given_emails):
        for group in groups(given_emails, policy_of):
            assert 1 <= len(group) <= MOST
            if len(group) > 1:
                assert all(may_travel(one, policy_of(one)) for one in group)
                assert len({(one.lane, one.priority, one.attempts, one.sender.rstrip(">").rpartition("@")[2].lower()) for one in group}) == 1  # fmt: skip

    @pytest.mark.parametrize(("after", "alone"), [(0, 3), (599, 3), (600, 0), (-30, 3)])
    def test_what_was_there_before_a_failover_goes_alone_for_ten_minutes(self, after, alone):
        given_emails = [email(id_) for id_ in range(1, 11)]
        rise = Rise(given_emails[0].claimed_at - timedelta(seconds=after), last_id=3)
        sizes = [len(group) for group in groups(given_emails, policy_of, rise)]
        assert sizes == [1] * alone + [10 - alone]

    @given(st.integers(0, 450))
    def test_equal_emails_fill_batches(self, n):
        sizes = [len(group) for group in groups([email(id_) for id_ in range(n)], policy_of)]
        assert sizes == [MOST] * (n // MOST) + ([n % MOST] if n % MOST else [])


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
bodies = st.builds(
    lambda subject, html, variables: {
        "from": "Shop <hi@shop.example>",
        "to": "ada@example.org",
        "subject": subject,
        "html": html,
        "template": {"id": "x", "variables": variables},
    },
    words,
    words,
    st.dictionaries(words, words | numbers, max_size=4),
)


class TestBytes:
    @given(st.lists(bodies, min_size=1, max_size=5))
    def test_what_was_rendered_comes_out_of_a_batch_as_it_went_in(self, payloads):
        items = [render(json.dumps(one), UUID(int=n), HOME) for n, one in enumerate(payloads)]
        assert unpacked(packed(items)) == items

    @given(st.lists(st.integers(), min_size=1, max_size=100))
    def test_quarters_partition_members_and_bytes_in_order(self, marks):
        items = [json.dumps({"n": mark}, separators=(",", ":")).encode() for mark in marks]
        parcel = Parcel(tuple(email(n) for n in range(len(marks))), Batch(uuid4(), packed(items), HOME))
        parts = list(quarters(parcel))
        assert [one for emails, _ in parts for one in emails] == list(parcel.emails)
        assert [item for _, bodies_ in parts for item in bodies_] == items
        sizes = [len(emails) for emails, _ in parts]
        assert sizes == [len(bodies_) for _, bodies_ in parts]
        assert len(sizes) == min(4, len(marks))
        assert max(sizes) - min(sizes) <= 1

    @given(st.integers(2, 100), st.data())
    def test_one_bad_member_is_alone_after_four_rounds_and_fourteen_requests(self, size, data):
        bad = data.draw(st.integers(0, size - 1))
        items = [json.dumps({"n": n}, separators=(",", ":")).encode() for n in range(size)]
        parcel = Parcel(tuple(email(n) for n in range(size)), Batch(uuid4(), packed(items), HOME))
        rounds = requests = 0
        while parcel.batch is not None:
            parts = [
                Parcel(tuple(emails), Batch(uuid4(), packed(bodies_), HOME) if len(emails) > 1 else None)
                for emails, bodies_ in quarters(parcel)
            ]
            rounds, requests = rounds + 1, requests + len(parts)
            (parcel,) = [part for part in parts if bad in {one.id for one in part.emails}]
        assert rounds <= 4
        assert requests <= 14


outcomes = st.sampled_from(
    [
        Ambiguous(WHY), Failed(WHY), Failed(WHY, transient=False), Throttled(WHY, timedelta(seconds=1)), Paused(WHY),
        Paused(WHY, "domain", "domain"), Paused(WHY, reason="message_errors"), Rejected(WHY), Unresolvable(WHY), Returned(), Expired(),
        Cancelled(), Parked("type", "welcome"), Limited("provider_day", "example.org", NOW + timedelta(hours=1)),
    ]
)  # fmt: skip


@st.composite
def parcels(draw) -> Parcel:
    n = draw(st.integers(2, 100))
    ambiguous = draw(st.booleans())
    batch = Batch(
        uuid4(), b"[]", HOME, attempts=draw(st.integers(0, 4)), ambiguous=ambiguous,
        last_ambiguous_at=NOW - draw(st.timedeltas(timedelta(), timedelta(minutes=5))) if ambiguous else None,
        first_asked_at=NOW - timedelta(minutes=5), first_failed_at=draw(st.sampled_from([None, NOW - timedelta(hours=5)])),
        transient=draw(st.booleans()),
    )  # fmt: skip
    return Parcel(tuple(email(id_) for id_ in range(n)), batch)


def decided(outcome, parcel, *, asked_ago=timedelta()):
    return decide_together(outcome, parcel, POLICY, now=NOW, asked_at=NOW - asked_ago, draw=lambda: 0.5)


class TestOneAnswerForAll:
    @given(parcels(), outcomes)
    def test_members_share_one_step(self, parcel, outcome):
        steps = decided(outcome, parcel)
        assert len(steps) == len(parcel.emails)
        assert len({step.name for step in steps}) == 1
        assert "again" not in {step.name for step in steps} or isinstance(outcome, Returned)

    @given(parcels())
    def test_an_acceptance_gives_each_its_own_id_in_order(self, parcel):
        ids = tuple(str(uuid4()) for _ in parcel.emails)
        steps = decided(SentAll(ids), parcel)
        assert [(step.name, step.provider_id) for step in steps] == [("sent", id_) for id_ in ids]

    @given(parcels(), outcomes)
    def test_what_may_have_been_accepted_is_never_dead_nor_taken_apart(self, parcel, outcome):
        if parcel.batch.ambiguous:
            steps = decided(outcome, parcel)
            assert {step.name for step in steps} <= {"kept", "unknown"}
            assert all(step.ambiguous for step in steps)
            assert isinstance(outcome, Rejected) or not any(step.rejected for step in steps)

    @given(parcels(), st.timedeltas(timedelta(), timedelta(minutes=3)))
    def test_rule_21_only_an_ask_begun_60_s_after_the_last_open_one_splits(self, parcel, asked_ago):
        (step, *_) = decided(Rejected(WHY), parcel, asked_ago=asked_ago)
        settled = (
            not parcel.batch.ambiguous or NOW - asked_ago >= parcel.batch.last_ambiguous_at + SETTLED_AFTER
        )
        assert (step.name, step.rejected) == ("kept", settled)
        if not settled:
            assert NOW + step.due_in >= parcel.batch.last_ambiguous_at + SETTLED_AFTER

    @given(parcels(), st.booleans())
    def test_a_second_no_in_unknown_words_splits_it_unless_it_may_have_been_accepted(self, parcel, ambiguous):
        """It may be about one of its members; and it is no proof that an ask before was not accepted."""
        batch = replace(parcel.batch, transient=False, ambiguous=ambiguous)
        no = Failed(replace(WHY, kind="unexpected", name="teapot", status=418), transient=False)
        steps = decided(no, replace(parcel, batch=batch))
        assert {(step.name, step.rejected) for step in steps} == {
            ("unknown", False) if ambiguous else ("kept", True)
        }

    @given(
        parcels(),
        st.sampled_from([Throttled(WHY, timedelta()), Paused(WHY), Returned(), Parked("type", "x")]),
    )
    def test_what_is_nobodys_fault_burns_nothing(self, parcel, outcome):
        assert {step.attempts for step in decided(outcome, parcel)} == {parcel.batch.attempts}
