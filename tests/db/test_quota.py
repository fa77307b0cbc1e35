"""The daily and monthly quota of an account: counted by recipients, with a share kept for critical queues."""

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from factories import HOME, insert, settler_without_thread, slot, uid_of
from limiting import DAY, HOUR, NOON, SLACK, columns_back, itself, most_within, subject

from outboxd.core.limits import Limit, Limits, Subject, ask, from_rule
from outboxd.core.outcome import Limited
from outboxd.db import lease, limit
from outboxd.db.policy import Policies
from outboxd.db.session import path_settings
from outboxd.delivery.admission import Admission
from outboxd.delivery.binder import Binder, bind
from outboxd.delivery.hand import Hand
from outboxd.delivery.leasing import Leasing, lease_emails
from outboxd.delivery.settler import settle

A_BIT = timedelta(milliseconds=20)
CRITICAL = "transactional"


def quota(kind: str, most: int, *, share: float = 0.1, starts_on: int = 1, key: str | None = None) -> Limit:
    return from_rule(kind, key, most, DAY, {"critical_share": share, "starts_on": starts_on})


def mail(id_: int, *recipients: str, queue: str = "marketing", **fields: Any) -> Subject:
    to = recipients or (f"u{id_}@example.org",)
    return subject(id_, *to, queue=queue, account=fields.pop("account", "default"), **fields)


def grant(
    conn: psycopg.Connection, emails: Sequence[Subject], *limits: Limit, now: datetime
) -> list[limit.Verdict]:
    wanted = ask(emails, Limits(limits, critical={CRITICAL}), itself)
    with conn.transaction():
        path_settings(conn)
        return limit.grant(conn, wanted, now=now)


def granted(verdicts: Sequence[limit.Verdict]) -> list[int]:
    return [verdict.id for verdict in verdicts if verdict.granted]


class TestTheShare:
    def test_other_queues_leave_it_free_and_critical_ones_use_all(self, conn):
        ten = quota("account_day", 10, share=0.25)
        assert granted(grant(conn, [mail(n) for n in range(12)], ten, now=NOON)) == list(range(8))
        assert granted(grant(conn, [mail(20)], ten, now=NOON)) == []
        critical = [mail(n, queue=CRITICAL) for n in range(30, 34)]
        assert granted(grant(conn, critical, ten, now=NOON)) == [30, 31]

    def test_in_one_batch_a_held_email_takes_nothing_from_the_critical_ones_behind_it(self, conn):
        ten = quota("account_day", 10, share=0.5)
        batch = [mail(n, queue=CRITICAL if n % 2 else "marketing") for n in range(20)]
        assert granted(grant(conn, batch, ten, now=NOON)) == [0, 1, 2, 3, 4, 5, 7, 9, 11, 13]

    def test_what_critical_queues_used_counts_for_the_others(self, conn):
        ten = quota("account_day", 10, share=0.5)
        assert len(granted(grant(conn, [mail(n, queue=CRITICAL) for n in range(5)], ten, now=NOON))) == 5
        assert granted(grant(conn, [mail(9)], ten, now=NOON)) == []

    @pytest.mark.parametrize(
        ("most", "share", "room"), [(100, 0.1, 90), (7, 0.1, 7), (1, 0.9, 1), (3, 0, 3), (10, 0.9, 1)]
    )
    def test_they_are_held_from_quota_times_one_less_the_share_on(self, conn, most, share, room):
        limits = quota("account_day", most, share=share)
        assert len(granted(grant(conn, [mail(n) for n in range(most + 1)], limits, now=NOON))) == room


class TestADay:
    def test_it_counts_recipients_of_to_cc_and_bcc(self, conn):
        ten = quota("account_day", 10, share=0)
        wide = [mail(n, *(f"u{n}.{m}@example.org" for m in range(4))) for n in range(3)]
        assert granted(grant(conn, [*wide, mail(9), mail(10), mail(11)], ten, now=NOON)) == [0, 1, 9, 10]

    def test_it_is_any_24_hours(self, conn):
        five, at = quota("account_day", 5, share=0), []
        for minute in range(0, 3 * 1440, 37):
            now = NOON + timedelta(minutes=minute)
            at += [now] * len(granted(grant(conn, [mail(minute), mail(-minute - 1)], five, now=now)))
        assert most_within(at, DAY) == 5
        assert len(at) >= 15

    def test_a_held_email_is_free_when_the_oldest_leaves(self, conn):
        two = quota("account_day", 2, share=0)
        grant(conn, [mail(1)], two, now=NOON)
        grant(conn, [mail(2)], two, now=NOON + HOUR)
        (held,) = grant(conn, [mail(3)], two, now=NOON + 2 * HOUR)
        assert (held.kind, held.key) == ("account_day", "default")
        assert abs(held.free_at - (NOON + DAY + SLACK)) < A_BIT
        assert granted(grant(conn, [mail(3)], two, now=held.free_at + A_BIT)) == [3]

    def test_accounts_have_quotas_of_their_own(self, conn):
        limits = (quota("account_day", 1, share=0), quota("account_day", 2, share=0, key="big"))
        emails = [mail(n, account="big" if n % 2 else "default") for n in range(6)]
        assert granted(grant(conn, emails, *limits, now=NOON)) == [0, 1, 3]


class TestAMonth:
    def test_a_new_one_begins_at_midnight_utc_whatever_went_before(self, conn):
        five = quota("account_month", 5, share=0)
        late = datetime(2026, 11, 30, 20, tzinfo=UTC)
        assert len(granted(grant(conn, [mail(n) for n in range(9)], five, now=late))) == 5
        (held,) = grant(conn, [mail(20)], five, now=late + HOUR)
        december = datetime(2026, 12, 1, tzinfo=UTC)
        assert (held.kind, abs(held.free_at - (december + SLACK)) < A_BIT) == ("account_month", True)
        assert (
            len(granted(grant(conn, [mail(n) for n in range(30, 39)], five, now=held.free_at + A_BIT))) == 5
        )

    def test_all_of_it_counts_to_its_end(self, conn):
        three = quota("account_month", 3, share=0)
        for day in (1, 15, 31):
            assert grant(conn, [mail(day)], three, now=datetime(2026, 1, day, 12, tzinfo=UTC))[0].granted
        assert granted(grant(conn, [mail(40)], three, now=datetime(2026, 1, 31, 23, 59, tzinfo=UTC))) == []

    def test_nothing_is_granted_so_near_its_turn_that_the_provider_may_count_for_the_other(self, conn):
        many = quota("account_month", 100, share=0)
        turn = datetime(2026, 3, 1, tzinfo=UTC)
        for beside in (-0.9, 0.0, 0.9):
            (held,) = grant(conn, [mail(1)], many, now=turn + timedelta(seconds=beside))
            assert (held.granted, abs(held.free_at - (turn + SLACK)) < A_BIT) == (False, True)
        for beside in (-1.1, 1.1):
            assert grant(conn, [mail(1)], many, now=turn + timedelta(seconds=beside))[0].granted

    @pytest.mark.parametrize(
        ("now", "day", "began"),
        [
            ("2026-03-14 23:59:59+00", 15, "2026-02-15"),
            ("2026-03-15 00:00:00+00", 15, "2026-03-15"),
            ("2027-01-01 00:30:00+01", 1, "2026-12-01"),
            ("2028-03-01 00:00:00+00", 28, "2028-02-28"),
            ("2026-10-25 03:00:00+02", 25, "2026-10-25"),
        ],
    )
    def test_it_begins_on_the_day_of_the_billing_cycle(self, conn, now, day, began):
        conn.execute("set time zone 'Europe/Berlin'")
        row = conn.execute(
            "select (outboxd.month_start(%s::timestamptz, %s) at time zone 'UTC')::text", (now, day)
        ).fetchone()
        assert row == (f"{began} 00:00:00",)


class TestTogether:
    def test_what_a_quota_grants_and_another_limit_refuses_is_not_taken(self, conn):
        limits = (quota("account_day", 10, share=0), Limit("type", "digest", 1, HOUR))
        grant(conn, [mail(n, type="digest") for n in range(5)], *limits, now=NOON)
        assert used(conn) == {"account_day": 1, "type": 1}

    def test_a_share_that_was_not_used_is_given_back(self, conn):
        ten = quota("account_day", 10, share=0)
        (verdict,) = grant(conn, [mail(1, "a@x.example", "b@x.example")], ten, now=NOON)
        unused = mail(1, "a@x.example", "b@x.example", granted_at=verdict.granted_at)
        with conn.transaction():
            path_settings(conn)
            limit.give_back(conn, columns_back([unused], [ten]))
        assert used(conn) == {"account_day": 0}


def used(conn: psycopg.Connection) -> dict[str, int]:
    rows = conn.execute(
        "select kind, (select coalesce(sum(n), 0) from unnest(n) as n) from outboxd.window_count"
    )
    return {kind: int(n) for kind, n in rows.fetchall()}


def set_quota(conn: psycopg.Connection, kind: str, **settings: Any) -> None:
    conn.execute("select outboxd.set_limit(%s, %s)", (f"our_{kind}", json.dumps({"kind": kind} | settings)))


def spent(conn: psycopg.Connection, kind: str, units: int) -> None:
    """So much was granted some minutes ago, if that was not in another month."""
    conn.execute(
        "insert into outboxd.window_count (kind, key, at, n, most, per, stale_at) values"
        " (%s, %s, array[clock_timestamp() - interval '90 s'], array[%s], 100, '40 d', 'infinity')",
        (kind, HOME.account, units),
    )


def far_from_the_turn(conn: psycopg.Connection) -> int:
    """A day on which no month turns within the test."""
    return conn.execute(
        "select (extract(day from clock_timestamp() at time zone 'UTC')::int + 9) % 28 + 1"
    ).fetchone()[0]


def explained(conn: psycopg.Connection, id_: int) -> tuple[str, datetime | None]:
    row = conn.execute(
        "select gate, free_at from outboxd.explain(%s) where holds", (uid_of(conn, id_),)
    ).fetchone()
    return row or ("", None)


def claim_everything(conn: psycopg.Connection) -> tuple[dict[int, Limited], set[int]]:
    """As the daemon does: what limits held, settled, and what is in hand."""
    settler = settler_without_thread()
    settler.policies.refresh(conn)
    settler.admission = Admission(settler.policies, itself)
    hand = Hand(20)
    binder = Binder(settler.session, hand, settler.report, [].append, 60.0, threading.Event())
    ttl = timedelta(seconds=60)
    leasing = Leasing(
        hand, settler, settler.admission, uuid4(), HOME, ttl, lambda load: bind(binder, conn, load)
    )
    open_ = [one for one in lease.slots(conn, HOME.account) if one.due_in <= 0 and not one.closed]
    wanted = [slot(one.queue, one.lane, one.priority) for one in open_]
    while wanted and lease_emails(leasing, conn, wanted, 500):
        pass
    held = []
    while not settler.inbox.empty():
        held.append(settler.inbox.get())
    if held:
        settle(settler, conn, held)
    outcomes = {email.id: result.outcome for result in held for email in result.held.parcel.emails}
    return outcomes, {email.id for one in hand.close() for email in one.parcel.emails}


@pytest.mark.parametrize("kind", ["account_day", "account_month"])
class TestThePath:
    def furnish(self, conn: psycopg.Connection, kind: str, **settings: Any) -> None:
        conn.execute("insert into outboxd.account (name) values (%s)", (HOME.account,))
        conn.execute("update outboxd.limit_rule set most = null")
        if kind == "account_month":
            settings |= {"starts_on": far_from_the_turn(conn)}
        set_quota(conn, kind, most=300, **settings)

    @pytest.mark.slow
    def test_explain_says_of_200_emails_what_the_path_then_does(self, conn, kind):
        self.furnish(conn, kind, critical_share=0.5)
        spent(conn, kind, 150)
        ids = [insert(conn, queue="marketing" if n % 2 else CRITICAL, type=f"t{n}") for n in range(200)]
        told = {id_: explained(conn, id_) for id_ in ids}
        held, going = claim_everything(conn)
        assert len(held) == len(going) == 100
        for id_, outcome in held.items():
            gate, free_at = told[id_]
            assert gate == f"{outcome.kind} limit" == f"{kind} limit"
            assert abs(outcome.free_at - free_at) < A_BIT
        assert {told[id_] for id_ in going} == {("", None)}

    def test_a_held_email_keeps_attempts_and_place_in_a_closed_lane_of_its_queue(self, conn, kind):
        self.furnish(conn, kind)
        spent(conn, kind, 270)
        ids = [insert(conn, queue="marketing", type=f"t{n}") for n in range(3)]
        standing = "select id, priority, scheduled_at from outboxd.ready order by id"
        before = conn.execute(standing).fetchall()
        held, going = claim_everything(conn)
        assert (set(held), going) == (set(ids), set())
        assert conn.execute(standing).fetchall() == before
        assert conn.execute("select count(*) from outboxd.progress where attempts > 0").fetchone() == (0,)
        assert conn.execute(
            "select distinct lane.kind, lane.key from outboxd.ready join outboxd.lane on lane.id = ready.lane"
        ).fetchall() == [("quota", f"{HOME.account}/marketing")]
        assert explained(conn, ids[0])[0] == "lane"
        assert claim_everything(conn) == ({}, set()), "a closed lane is not asked about again"
        critical = insert(conn, type="reset")
        assert claim_everything(conn)[1] == {critical}

    def test_a_raised_quota_or_a_queue_made_critical_opens_the_lane(self, conn, kind):
        self.furnish(conn, kind)
        spent(conn, kind, 270)
        first, second = (insert(conn, queue="marketing", type=f"t{n}") for n in range(2))
        claim_everything(conn)
        conn.execute(
            "update outboxd.ready set scheduled_at = clock_timestamp() + interval '1 d' where id = %s",
            (second,),
        )
        policies = Policies()
        policies.follow(conn, lease.any_expired(conn)[1])
        set_quota(conn, kind, most=305)
        policies.follow(conn, lease.any_expired(conn)[1])
        assert claim_everything(conn)[1] == {first}
        conn.execute("update outboxd.ready set scheduled_at = clock_timestamp() - interval '1 d'")
        spent_all = "update outboxd.window_count set n = array[290]"
        conn.execute(spent_all)
        assert set(claim_everything(conn)[0]) == {second}
        conn.execute("""select outboxd.set_queue('marketing', '{"critical": true}')""")
        policies.follow(conn, lease.any_expired(conn)[1])
        assert claim_everything(conn)[1] == {second}

    def test_usage_is_shown(self, conn, kind):
        self.furnish(conn, kind)
        spent(conn, kind, 30)
        insert(conn)
        claim_everything(conn)
        shown = conn.execute("select kind, key, used, most, filled, per from outboxd.limit_usage").fetchall()
        assert shown == [(kind, HOME.account, 31, 300, 0.103, DAY if kind == "account_day" else 30 * DAY)]


def test_without_a_quota_limits_ask_nothing_of_an_email():
    assert (
        ask(
            [mail(1)], Limits([Limit("account", None, 10, timedelta(seconds=1))], overrides=()), itself
        ).share_of
        == []
    )


def test_a_quota_lists_its_queues_share_and_month_and_an_export_is_applied_without_a_difference(conn):
    set_quota(conn, "account_month", most=3000, critical_share=0.2)
    set_quota(conn, "account_day", most=100)
    book = conn.execute("select outboxd.whole_policy() -> 'limits'").fetchone()[0]
    assert book["our_account_month"] == {
        "kind": "account_month",
        "most": 3000,
        "critical_share": 0.2,
        "starts_on": 1,
    }
    assert book["our_account_day"] == {
        "kind": "account_day",
        "most": 100,
        "per": "1 d",
        "critical_share": 0.1,
    }
    for name in ("our_account_month", "our_account_day"):
        again = conn.execute("select outboxd.set_limit(%s, %s)", (name, json.dumps(book[name]))).fetchone()
        assert again == ({},)
    assert conn.execute(
        "select name, critical_share, starts_on from outboxd.limit_policy where kind like 'account_%' order by 1"
    ).fetchall() == [("our_account_day", 0.1, None), ("our_account_month", 0.2, 1)]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"kind": "account_day"}, "most"),
        ({"kind": "account_day", "most": 0}, "most"),
        ({"kind": "account_day", "most": 9, "critical_share": 1}, "critical_share"),
        ({"kind": "account_day", "most": 9, "critical_share": "some"}, "critical_share"),
        ({"kind": "account_day", "most": 9, "starts_on": 3}, "starts_on"),
        ({"kind": "account_day", "most": 9, "exempt_types": ["reset"]}, "exempt_types"),
        ({"kind": "account_month", "most": 9, "starts_on": 31}, "starts_on"),
        ({"kind": "account_month", "most": 9, "per": "30 d"}, "per"),
        ({"kind": "queue", "most": 9, "per": "1 h", "critical_share": 0.1}, "critical_share"),
    ],
)
def test_nonsense_in_a_quota_is_refused_by_name(conn, settings, key):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"^{key}: "):
        conn.execute("select outboxd.set_limit('new', %s)", (json.dumps(settings),))


def test_a_queue_is_critical_or_not_and_nothing_else(conn):
    assert conn.execute("select queue from outboxd.queue_policy where critical").fetchall() == [(CRITICAL,)]
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"^critical: "):
        conn.execute("""select outboxd.set_queue('system', '{"critical": "very"}')""")
