"""What one statement grants, refuses, moves and takes back; under a bound clock."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from limiting import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SLACK,
    THREE_AN_HOUR,
    columns,
    give_back,
    grant,
    granted,
    itself,
    most_within,
    subject,
)

from outboxd.core.limits import Limit, Limits, ask
from outboxd.db import limit

SECOND = timedelta(seconds=1)
A_BIT = timedelta(milliseconds=60)  # more than the statement's own precision


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def used(conn: psycopg.Connection, kind: str, key: str) -> int:
    row = conn.execute(
        "select (select sum(n) from unnest(n) n) from outboxd.window_count where kind = %s and key = %s",
        (kind, key),
    ).fetchone()
    return row[0] or 0 if row else 0


class TestMailboxes:
    def test_the_fourth_mail_in_an_hour_waits_until_the_first_leaves_the_window(self, conn):
        for n in range(3):
            assert grant(conn, [subject(n)], THREE_AN_HOUR, now=at(n))[0].granted
        (held,) = grant(conn, [subject(9)], THREE_AN_HOUR, now=at(100))
        assert (held.granted, held.kind, held.key) == (False, "recipient", "ada@example.org")
        assert at(0) + HOUR + SLACK <= held.free_at <= at(0) + HOUR + SLACK + A_BIT
        assert not grant(conn, [subject(9)], THREE_AN_HOUR, now=held.free_at - A_BIT)[0].granted
        assert grant(conn, [subject(9)], THREE_AN_HOUR, now=held.free_at + A_BIT)[0].granted

    def test_one_batch_grants_three_of_four_to_one_mailbox_in_their_order(self, conn):
        verdicts = grant(conn, [subject(n) for n in (7, 5, 6, 4)], THREE_AN_HOUR, now=NOON)
        assert granted(verdicts) == [7, 5, 6]
        assert verdicts[3].free_at >= NOON + HOUR

    def test_asking_again_for_an_email_moves_its_entry_and_is_no_second_mail(self, conn):
        for n in range(3):
            grant(conn, [subject(n)], THREE_AN_HOUR, now=at(n))
        assert grant(conn, [subject(0)], THREE_AN_HOUR, now=at(3540))[0].granted
        assert not grant(conn, [subject(9)], THREE_AN_HOUR, now=at(3601.5))[0].granted, (
            "0 may have arrived at 3540"
        )
        assert grant(conn, [subject(9)], THREE_AN_HOUR, now=at(3603))[0].granted

    def test_an_email_that_is_asked_for_again_and_again_has_one_entry(self, conn):
        for second in range(4):
            assert grant(conn, [subject(0)], THREE_AN_HOUR, now=at(second))[0].granted
        assert granted(grant(conn, [subject(n) for n in (1, 2, 3)], THREE_AN_HOUR, now=at(9))) == [1, 2]

    def test_a_window_is_longer_by_the_time_from_grant_to_arrival(self, conn):
        grant(conn, [subject(1)], Limit("recipient", None, 1, HOUR), now=NOON)
        assert not grant(conn, [subject(2)], Limit("recipient", None, 1, HOUR), now=NOON + HOUR + SLACK / 2)[
            0
        ].granted

    def test_to_cc_and_bcc_are_each_counted_and_all_or_none_granted(self, conn):
        for n in range(3):
            grant(conn, [subject(n, "full@a.example")], THREE_AN_HOUR, now=at(n))
        (held,) = grant(conn, [subject(8, "fresh@a.example", "full@a.example")], THREE_AN_HOUR, now=at(5))
        assert held.key == "full@a.example"
        rows = conn.execute("select sum(cardinality(emails)) from outboxd.recipient_count").fetchone()
        assert rows == (3,), "the refused email left nothing behind at the mailbox that had room"

    def test_an_exempt_type_is_never_the_fourth_and_does_not_count(self, conn):
        assert granted(
            grant(conn, [subject(n, type="reset") for n in range(9)], THREE_AN_HOUR, now=NOON)
        ) == list(range(9))
        assert grant(conn, [subject(10)], THREE_AN_HOUR, now=at(1))[0].granted

    def test_hundreds_of_new_mailboxes_are_one_write_each(self, conn):
        emails = [subject(n, f"u{n}@x{n % 7}.example") for n in range(500)]
        minute = Limit("provider_minute", None, 1000, MINUTE)
        assert len(granted(grant(conn, emails, THREE_AN_HOUR, minute, now=NOON))) == 500
        conn.execute("select pg_stat_force_next_flush()")
        wrote = conn.execute(
            "select n_tup_ins, n_tup_upd from pg_stat_user_tables where relname = 'recipient_count'"
        ).fetchone()
        assert wrote == (500, 0)

    @pytest.mark.parametrize(
        "address", ['"a,b"@x.example', "{a}@x.example", "null@x.example", "a b@x.example"]
    )
    def test_an_address_that_looks_like_an_arrays_own_text_is_counted_as_it_is(self, conn, address):
        one = Limit("recipient", None, 1, HOUR)
        assert granted(grant(conn, [subject(1, address, "b@x.example")], one, now=NOON)) == [1]
        (held,) = grant(conn, [subject(2, address)], one, now=at(1))
        assert (held.granted, held.key) == (False, address)

    def test_new_mailboxes_of_refused_emails_are_left_empty(self, conn):
        queue = Limit("queue", None, 2, MINUTE)
        emails = [subject(n, f"u{n}@x.example") for n in range(4)]
        assert granted(grant(conn, emails, THREE_AN_HOUR, queue, now=NOON)) == [0, 1]
        rows = conn.execute("select sum(cardinality(emails)) from outboxd.recipient_count").fetchone()
        assert rows == (2,)
        assert used(conn, "queue", "transactional") == 2

    def test_a_mailbox_that_is_named_twice_in_an_email_is_one_mail(self, conn):
        one = Limit("recipient", None, 1, HOUR)
        assert grant(conn, [subject(1, "a@b.example", "a@b.example")], one, now=NOON)[0].granted


class TestWindows:
    def test_what_one_limit_grants_and_the_next_refuses_is_not_taken(self, conn):
        queue, type_ = Limit("queue", None, 10, MINUTE), Limit("type", "digest", 1, MINUTE)
        emails = [subject(1, type="digest"), subject(2, type="digest"), subject(3)]
        assert granted(grant(conn, emails, queue, type_, now=NOON)) == [1, 3]
        assert used(conn, "queue", "transactional") == 2
        assert used(conn, "type", "digest") == 1

    def test_a_share_that_was_refused_serves_the_next_email_of_the_same_batch(self, conn):
        queue, type_ = Limit("queue", None, 2, MINUTE), Limit("type", "digest", 1, MINUTE)
        emails = [*(subject(n, type="digest") for n in range(5)), subject(9)]
        assert granted(grant(conn, emails, queue, type_, now=NOON)) == [0, 9]

    @pytest.mark.slow
    @pytest.mark.parametrize("step", [0.2, 0.61, 7.3, 61.0])
    def test_no_sliding_minute_holds_more_and_demand_fills_what_is_allowed(self, conn, step):
        most, instants = 20, []
        for n in range(int(400 / step) if step < 1 else 300):
            now = at(n * step)
            instants += [now] * len(granted(grant(conn, [subject(n * 5 + k, f"u{n}.{k}@x.example") for k in range(5)],
                Limit("provider_minute", None, most, MINUTE), now=now)))  # fmt: skip
        assert most_within(instants, MINUTE + SLACK) <= most
        lasted = instants[-1] - NOON
        if step < 1:
            assert len(instants) >= 0.95 * most * lasted / (MINUTE + SLACK)
        else:
            assert len(instants) >= 0.9 * min(5 / step, most / 61) * lasted.total_seconds()

    def test_a_trickle_comes_back_no_sooner_than_its_last_share(self, conn):
        minute, instants = Limit("provider_minute", None, 20, MINUTE), []
        trickle = [(n * 0.1, 1) for n in range(20)]
        for number, (second, count) in enumerate([*trickle, (61.05, 20), (61.6, 20), (62.6, 20), (64.0, 20)]):
            emails = [subject(100 * number + k, f"u{number}.{k}@x.example") for k in range(count)]
            instants += [at(second)] * len(granted(grant(conn, emails, minute, now=at(second))))
        assert most_within(instants, MINUTE + SLACK) <= 20
        assert len(instants) == 40

    def test_a_day_is_any_24_hours_and_midnight_changes_nothing(self, conn):
        midnight = datetime(2026, 3, 30, tzinfo=UTC)  # the night in which European clocks went on
        day = Limit("provider_day", None, 3, DAY)
        for n in range(3):
            assert grant(conn, [subject(n)], day, now=midnight - timedelta(seconds=3 - n))[0].granted
        (held,) = grant(conn, [subject(9)], day, now=midnight)
        assert not held.granted
        assert held.free_at >= midnight - timedelta(seconds=3) + DAY
        assert not grant(conn, [subject(9)], day, now=midnight + timedelta(hours=23, minutes=59))[0].granted
        assert grant(conn, [subject(9)], day, now=midnight + DAY + timedelta(hours=1))[0].granted

    def test_null_and_empty_keys_are_under_no_limit(self, conn):
        limits = [Limit(kind, None, 1, MINUTE) for kind in ("campaign", "tenant")]
        emails = [subject(n, tenant=None if n % 2 else "") for n in range(4)]
        assert granted(grant(conn, emails, *limits, now=NOON)) == [0, 1, 2, 3]
        assert conn.execute("select count(*) from outboxd.window_count").fetchone() == (0,)

    def test_a_key_of_its_own_beats_the_limit_for_every_key(self, conn):
        limits = [Limit("campaign", None, 1, MINUTE), Limit("campaign", "big", 3, MINUTE)]
        emails = [subject(n, campaign="big" if n < 5 else "small") for n in range(10)]
        assert granted(grant(conn, emails, *limits, now=NOON)) == [0, 1, 2, 5]

    def test_a_provider_is_counted_by_recipients(self, conn):
        day = Limit("provider_day", None, 5, DAY)
        emails = [subject(n, f"a{n}@x.example", f"b{n}@x.example") for n in range(3)]
        assert granted(grant(conn, emails, day, now=NOON)) == [0, 1]

    def test_two_domains_of_one_provider_are_summed_up_within_an_email(self, conn):
        limits = Limits([Limit("provider_day", None, 3, DAY)])
        from outboxd.core.provider import Provider

        emails = [subject(n, f"a{n}@x.example", f"b{n}@y.example") for n in range(2)]
        wanted = ask(emails, limits, lambda _: Provider("group", "group"))
        assert granted(limit.grant(conn, wanted, now=NOON)) == [0]

    def test_an_email_with_more_recipients_than_a_limit_has_shares_goes_once_the_window_is_empty(self, conn):
        minute = Limit("provider_minute", None, 2, MINUTE)
        big = subject(2, *(f"u{n}@x.example" for n in range(5)))
        assert grant(conn, [subject(1, "a@x.example")], minute, now=NOON)[0].granted
        assert not grant(conn, [big], minute, now=at(1))[0].granted
        assert grant(conn, [big], minute, now=at(62))[0].granted
        assert not grant(conn, [subject(3, "b@x.example")], minute, now=at(63))[0].granted

    def test_what_left_the_window_holds_nobody_though_it_still_stands_in_the_row(self, conn):
        two = Limit("provider_minute", None, 2, MINUTE)
        for n in (0, 40):
            assert grant(conn, [subject(n, f"u{n}@x.example")], two, now=at(n))[0].granted
        assert not grant(conn, [subject(7, "u7@x.example")], two, now=at(50))[0].granted
        assert grant(conn, [subject(8, "u8@x.example")], two, now=at(62))[0].granted
        assert not grant(conn, [subject(9, "u9@x.example")], two, now=at(63))[0].granted

    @pytest.mark.parametrize("kind", ["provider_minute", "recipient"])
    def test_a_clock_that_steps_back_lends_nothing(self, conn, kind):
        ten = Limit(kind, None, 10, MINUTE)
        assert grant(conn, [subject(1)], ten, now=NOON)[0].granted
        for n in range(9):  # granted while the clock is behind: they count from where the clock was
            assert grant(conn, [subject(10 + n)], ten, now=at(-3000 + n))[0].granted
        assert not grant(conn, [subject(30)], ten, now=at(-2000))[0].granted
        assert not grant(conn, [subject(30)], ten, now=at(59))[0].granted
        assert len(granted(grant(conn, [subject(100 + n) for n in range(20)], ten, now=at(62)))) == 10


class TestMovingAndGivingBack:
    limits = (THREE_AN_HOUR, Limit("provider_minute", None, 2, MINUTE), Limit("queue", None, 2, HOUR))

    def test_what_was_given_back_is_free_at_once(self, conn):
        verdicts = grant(conn, [subject(1), subject(2)], *self.limits, now=NOON)
        assert not grant(conn, [subject(3)], *self.limits, now=at(1))[0].granted
        assert give_back(conn, [subject(1, granted_at=verdicts[0].granted_at)], *self.limits) == 1
        assert granted(grant(conn, [subject(3), subject(4)], *self.limits, now=at(2))) == [3]

    def test_an_email_with_an_open_ambiguity_keeps_its_shares(self, conn):
        (mine,) = grant(conn, [subject(1)], *self.limits, now=NOON)
        conn.execute("insert into outboxd.progress (id, ambiguous, frozen) values (1, true, '{}')")
        assert give_back(conn, [subject(1, granted_at=mine.granted_at)], *self.limits) == 0
        assert granted(grant(conn, [subject(3), subject(4)], *self.limits, now=at(1))) == [3]

    def test_giving_back_late_does_not_take_a_later_grant_of_the_same_email(self, conn):
        one = Limit("recipient", None, 1, HOUR)
        (first,) = grant(conn, [subject(1)], one, now=NOON)
        grant(conn, [subject(1)], one, now=at(10))
        give_back(conn, [subject(1, granted_at=first.granted_at)], one)
        assert not grant(conn, [subject(2)], one, now=at(11))[0].granted

    def test_asking_again_with_an_unused_grant_moves_it_to_the_new_instant(self, conn):
        minute = Limit("provider_minute", None, 2, MINUTE)
        first = grant(conn, [subject(1), subject(2)], minute, now=NOON)
        (again,) = grant(conn, [subject(1, granted_at=first[0].granted_at)], minute, now=at(50))
        assert again.granted
        assert used(conn, "provider_minute", "example.org") == 2
        assert granted(grant(conn, [subject(3), subject(4)], minute, now=at(62))) == [3]

    def test_a_share_that_moves_frees_its_old_place_and_no_other(self, conn):
        minute = Limit("provider_minute", None, 4, MINUTE)
        first = grant(conn, [subject(1)], minute, now=NOON)[0]
        grant(conn, [subject(2)], minute, now=at(0.4))  # the same sub-slot
        grant(conn, [subject(3)], minute, now=at(30))
        grant(conn, [subject(1, granted_at=first.granted_at)], minute, now=at(40))
        assert used(conn, "provider_minute", "example.org") == 3

    def test_a_share_that_left_its_window_takes_none_of_a_newer_one_with_it(self, conn):
        queue = Limit("queue", "transactional", 5, MINUTE)
        (old,) = grant(conn, [subject(1)], queue, now=NOON)
        grant(conn, [subject(2)], queue, now=at(3600))
        give_back(conn, [subject(1, granted_at=old.granted_at)], queue)
        assert used(conn, "queue", "transactional") == 1

    def test_a_share_whose_slot_left_its_window_takes_none_of_the_next_slot_with_it(self, conn):
        minute = Limit("provider_minute", None, 4, MINUTE)
        grant(conn, [subject(1), subject(2)], minute, now=at(1.4))  # slots begin at 0 s and at 1.5 s
        grant(conn, [subject(3), subject(4)], minute, now=at(1.6))
        grant(conn, [subject(5)], minute, now=at(62.5))
        give_back(conn, [subject(n, granted_at=at(1.4)) for n in (1, 2)], minute)
        assert used(conn, "provider_minute", "example.org") == 3


class TestOverrides:
    minute = Limit("provider_minute", None, 10, MINUTE)

    def override(self, conn, factor, until=None):
        conn.execute(
            "insert into outboxd.provider_override values ('x.example', %s, %s, 'deferrals', 'ada')",
            (factor, until),
        )

    def emails(self, count):
        return [subject(n, f"u{n}@x.example") for n in range(count)]

    def test_a_rate_factor_makes_the_provider_slower(self, conn):
        self.override(conn, 0.3)
        assert len(granted(grant(conn, self.emails(10), self.minute, now=NOON))) == 3

    def test_a_factor_leaves_at_least_one(self, conn):
        self.override(conn, 0.001)
        assert len(granted(grant(conn, self.emails(10), self.minute, now=NOON))) == 1

    @pytest.mark.parametrize("limits", [(minute,), ()])
    def test_a_suspended_provider_gets_nothing_until_then_with_or_without_a_limit(self, conn, limits):
        self.override(conn, 1, at(300))
        held = grant(conn, [*self.emails(2), subject(9, "a@y.example")], *limits, now=NOON)
        assert granted(held) == [9]
        assert {verdict.free_at for verdict in held[:2]} == {at(300)}
        assert len(granted(grant(conn, self.emails(2), *limits, now=at(301)))) == 2

    @pytest.mark.parametrize("first", ["reset", "welcome"])
    def test_an_exempt_type_neither_counts_nor_keeps_others_from_counting_while_somebody_is_slowed(
        self, conn, first
    ):
        conn.execute(
            "insert into outboxd.provider_override values ('y.example', 0.5, null, 'deferrals', 'ada')"
        )
        minute = Limit("provider_minute", None, 2, MINUTE, exempt_types=frozenset({"reset"}))
        emails = [subject(n, f"u{n}@x.example") for n in range(3)]
        reset = [subject(10 + n, f"r{n}@x.example", type="reset") for n in range(3)]
        wanted = [*reset, *emails] if first == "reset" else [*emails, *reset]
        assert sorted(granted(grant(conn, wanted, minute, now=NOON))) == [0, 1, 10, 11, 12]
        assert used(conn, "provider_minute", "x.example") == 2

    def test_a_custom_domain_is_shaped_with_its_exchangers_provider_and_counted_alone(self, conn):
        from outboxd.core.provider import Provider

        self.override(conn, 0.5)
        limits = Limits([self.minute])
        wanted = ask(
            [subject(n, f"u{n}@{'shop' if n < 9 else 'other'}.example") for n in range(18)],
            limits,
            lambda domain: Provider(domain, "x.example"),
        )
        assert len(granted(limit.grant(conn, wanted, now=NOON))) == 10  # five for each of the two domains


def test_nothing_asked_is_nothing_granted(conn):
    assert grant(conn, [], THREE_AN_HOUR) == []
    assert granted(grant(conn, [subject(1)])) == [1]


def test_pruning_removes_what_counts_no_more_and_nothing_else(conn):
    limits = (THREE_AN_HOUR, Limit("provider_day", None, 3, DAY))
    for n in range(3):
        grant(conn, [subject(n)], *limits, now=NOON)
    grant(conn, [subject(5, "old@old.example")], THREE_AN_HOUR, Limit("queue", None, 9, MINUTE), now=NOON)
    assert limit.prune(conn, now=NOON + HOUR) == 1  # the queue's minute
    assert limit.prune(conn, now=NOON + HOUR + timedelta(minutes=40)) == 2  # both mailboxes
    assert not grant(conn, [subject(9)], *limits, now=NOON + timedelta(hours=20))[0].granted
    assert limit.prune(conn, now=NOON + DAY + HOUR) >= 2
    assert conn.execute("select count(*) from outboxd.window_count").fetchone() == (0,)


def test_pruning_is_bounded_and_done_by_one_daemon_at_a_time(connect):
    a, b = connect(), connect()
    grant(a, [subject(n, f"u{n}@x.example") for n in range(30)], THREE_AN_HOUR, now=NOON)
    later = NOON + 2 * HOUR
    assert limit.prune(a, limit=10, now=later) == 10
    with b.transaction():
        b.execute("select pg_advisory_xact_lock(7101, 3)")
        assert limit.prune(a, limit=10, now=later) == 0
    assert limit.prune(a, now=later) == 20


def test_columns_are_what_the_statement_expects():
    wanted = columns(
        [subject(4), subject(3, "b@c.example")], [THREE_AN_HOUR, Limit("queue", None, 9, MINUTE)]
    )
    assert (wanted.emails, wanted.mailbox_of) == ([4, 3], [1, 2])
    assert wanted.keys == ["transactional", "example.org", "c.example"]
    assert (wanted.share_of, wanted.share_key) == ([1, 1, 2, 2], [1, 2, 1, 3])
    assert wanted.key_demand == [2, 1, 1]
    assert itself("a").name == "a"


class TestViews:
    def test_usage_tells_how_much_of_a_limit_is_used_now(self, conn):
        limits = (Limit("provider_minute", None, 10, MINUTE), Limit("queue", None, 4, HOUR))
        grant(conn, [subject(n, f"u{n}@x.example") for n in range(3)], *limits)
        rows = conn.execute(
            "select kind, key, most, used, filled from outboxd.limit_usage order by kind"
        ).fetchall()
        assert rows == [("provider_minute", "x.example", 10, 3, 0.3), ("queue", "transactional", 4, 3, 0.75)]
        grant(conn, [subject(9, "old@y.example")], limits[0], now=NOON - timedelta(days=400))
        assert conn.execute("select count(*) from outboxd.limit_usage").fetchone() == (2,)

    def test_a_providers_health_shows_its_override_and_its_minute_and_day(self, conn):
        limits = (Limit("provider_minute", None, 10, MINUTE), Limit("provider_day", None, 50, DAY))
        grant(conn, [subject(1, "a@x.example"), subject(2, "b@x.example")], *limits)
        conn.execute(
            "insert into outboxd.provider_override values"
            " ('x.example', 0.5, null, 'slow', 'ada'), ('yahoo', 1, clock_timestamp() + interval '1 h', 'bounces', 'bob')"
        )
        conn.execute(
            "insert into outboxd.domain_mx values ('shop.example', 'yahoo', clock_timestamp(), 'infinity')"
        )
        rows = conn.execute(
            "select provider, rate_factor, suspended_until is not null, minute_used, day_used, day_most, custom_domains"
            " from outboxd.provider_health order by provider"
        ).fetchall()
        assert rows == [("x.example", 0.5, False, 2, 2, 50, 0), ("yahoo", 1.0, True, 0, 0, None, 1)]
