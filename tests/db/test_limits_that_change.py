"""Limits that come, widen or lift an exemption while emails are in hand: what they never counted is no share of theirs."""

import json
from datetime import timedelta
from importlib.resources import files
from typing import Any

import psycopg
import pytest
from factories import insert, payload
from limiting import DAY, HOUR, MINUTE, NOON, THREE_AN_HOUR, give_back, grant, granted, itself, subject, under
from test_lanes import COLUMNS, Daemon, ids

from outboxd.core.limits import Limit, Limits, Subject, ask
from outboxd.core.provider import Provider
from outboxd.db import limit
from outboxd.db.query import query
from outboxd.db.session import path_settings

THREE_A_DAY = Limit("provider_day", "example.org", 3, DAY)


def at(seconds: float) -> Any:
    return NOON + timedelta(seconds=seconds)


def people(*numbers: int, **more: Any) -> list[Subject]:
    return [subject(n, f"u{n}@example.org", **more) for n in numbers]


def used(conn: psycopg.Connection) -> dict[str, int]:
    rows = conn.execute(
        "select kind, (select sum(n) from unnest(n) as n) from outboxd.window_count"
    ).fetchall()
    return {kind: int(n) for kind, n in rows}


def test_what_is_in_hand_when_a_limit_comes_is_counted_by_it_before_it_leaves(conn):
    first, second = Daemon(conn), Daemon(conn)
    for n in range(8):
        insert(conn, type=f"t{n}", body=payload(to=f"u{n}@example.org"), **COLUMNS)
    in_hand = first.claim()
    assert all(email.grant.at is not None for one in in_hand for email in one.parcel.emails)
    rule = {"kind": "campaign", "key": "spring", "most": 3, "per": "1 d"}
    conn.execute("select outboxd.set_limit('few', %s)", (json.dumps(rule),))
    for daemon in (first, second):
        daemon.settler.policies.refresh(conn)
    for n in range(5):
        insert(conn, body=payload(to=f"v{n}@example.org"), **COLUMNS)
    assert len(ids(second.claim())) == 3
    go, stopped = first.settler.admission.grant(conn, [one.parcel for one in in_hand])
    assert (go, {one.outcome.kind for _, one in stopped}) == ([], {"campaign"})
    assert used(conn)["campaign"] == 3


def test_what_moves_under_a_limit_that_came_meanwhile_passes_as_far_as_there_is_room_and_is_counted(conn):
    limits = (THREE_AN_HOUR, THREE_A_DAY)
    assert len(granted(grant(conn, people(1, 2), THREE_AN_HOUR, now=at(0)))) == 2
    assert len(granted(grant(conn, people(11, 12), *limits, now=at(0.3)))) == 2
    mine = under(people(1, 2, granted_at=at(0)), THREE_AN_HOUR)
    assert granted(grant(conn, mine, *limits, now=at(0.8))) == [1]
    assert used(conn) == {"provider_day": 3}


def test_what_was_granted_before_a_limit_came_gives_back_no_share_of_others(conn):
    limits = (THREE_AN_HOUR, THREE_A_DAY)
    assert len(granted(grant(conn, people(1, 2, 3), THREE_AN_HOUR, now=at(0)))) == 3
    assert len(granted(grant(conn, people(11, 12, 13), *limits, now=at(10)))) == 3
    give_back(conn, under(people(1, 2, 3, granted_at=at(0)), THREE_AN_HOUR), *limits)
    assert granted(grant(conn, people(21, 22, 23), *limits, now=at(20))) == []


def test_what_was_exempt_when_it_was_granted_has_no_share_once_it_is_not(conn):
    exempt = Limit("provider_day", "example.org", 3, DAY, frozenset({"reset"}))
    assert len(granted(grant(conn, people(11, 12, 13), exempt, now=at(0)))) == 3
    mine = people(1, 2, 3, type="reset")
    assert len(granted(grant(conn, mine, exempt, now=at(0)))) == 3
    again = under(people(1, 2, 3, type="reset", granted_at=at(0)), exempt)
    assert granted(grant(conn, again, THREE_A_DAY, now=at(0.8))) == []
    assert used(conn) == {"provider_day": 3}


def test_of_a_provider_that_gained_a_domain_only_the_units_of_then_move(conn):
    """Two recipients, of which one was at the provider when it was granted."""
    gmail = Limits([Limit("provider_minute", "gmail", 3, MINUTE)])
    both = ("a@gmail.com", "b@shop.example")

    def of(domain: str) -> Provider:
        return Provider("gmail", "gmail") if domain == "gmail.com" else itself(domain)

    def ask_for(emails: list[Subject], provider_of: Any, seconds: float) -> list[int]:
        with conn.transaction():
            path_settings(conn)
            return granted(limit.grant(conn, ask(emails, gmail, provider_of), now=at(seconds)))

    assert ask_for([subject(1, *both), subject(2, "c@gmail.com")], of, 0) == [1, 2]
    mine = subject(1, *both, granted_at=at(0), granted=gmail.needs(subject(1, *both), of))
    assert ask_for([mine], lambda _: Provider("gmail", "gmail"), 0.5) == [1]
    assert used(conn) == {"provider_minute": 3}
    assert ask_for([subject(3, "d@gmail.com")], of, 1) == []


def test_what_a_limit_granted_that_was_removed_since_is_given_back_to_it(conn):
    assert len(granted(grant(conn, people(1, 2), THREE_A_DAY, now=at(0)))) == 2
    give_back(conn, under(people(1, granted_at=at(0)), THREE_A_DAY))
    assert used(conn) == {"provider_day": 1}


def test_a_daemon_of_an_older_release_asks_without_what_it_was_granted_and_moves_all_of_it(conn):
    words = query("limit/grant")
    older = words.replace(", nullif(%(share_granted)s::integer[], '{}')", "")
    assert older != words
    queue = Limit("queue", None, 2, HOUR)

    def ask_for(*emails: Subject, seconds: float) -> list[bool]:
        wanted = limit._columns(ask(emails, Limits([queue]), itself))
        values = wanted | {"slack": timedelta(seconds=1), "now": at(seconds)}
        return [row[1] for row in conn.execute(older, values).fetchall()]

    assert ask_for(*people(1, 2), seconds=0) == [True]
    assert ask_for(*people(1, 2, granted_at=at(0)), seconds=5) == [True]
    assert used(conn) == {"queue": 2}


@pytest.mark.parametrize("function", ["grant_limits", "refuse_limits"])
def test_what_an_older_release_had_placed_is_replaced_and_not_doubled(conn, function):
    """Or the grant of rights by name would be refused, and with it the upgrade."""
    named = "select pg_get_function_identity_arguments(oid) from pg_proc where proname = %s"
    ((now,),) = conn.execute(named, (function,)).fetchall()
    older = now.replace(", share_granted integer[]", "")
    assert older != now
    returns = "returns integer language sql as 'select 1'"
    conn.execute(f"create function outboxd.{function}({older}) {returns}")
    conn.execute((files("outboxd.sql") / "functions" / f"{function}.sql").read_text("utf-8"))
    assert conn.execute(named, (function,)).fetchall() == [(now,)]
