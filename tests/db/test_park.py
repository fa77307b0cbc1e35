"""Parking in bulk: whose emails move, how far one statement looks, and what it leaves alone."""

from datetime import UTC, datetime, timedelta

import pytest
from factories import insert, insert_many, payload, slot

from outboxd.db import lease, parking, pause


def put(conn, *domains: str, **columns) -> list[int]:
    return [insert(conn, body=payload(to=f"u{n}@{domain}"), **columns) for n, domain in enumerate(domains)]


def lanes(conn) -> dict[int, int]:
    return dict(conn.execute("select id, lane from outboxd.ready").fetchall())


def test_all_domains_of_a_group_move_and_no_others_do(conn):
    ids = put(conn, "gmail.com", "googlemail.com", "gmail.com.evil.example", "yahoo.fr", "shop.example")
    lane = pause.lane(conn, "provider", "gmail")
    seen = parking.park(conn, slot(), "gmail", lane, limit=100).seen
    assert seen == 5
    assert [lanes(conn)[id_] for id_ in ids] == [lane, lane, 0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "column"), [("campaign", "campaign"), ("tenant", "tenant"), ("type", "type"), ("queue", "queue")]
)
def test_what_belongs_to_one_thing_moves_and_nothing_else_does(conn, kind, column):
    conn.execute("insert into outboxd.queue (name) values ('spring')")
    conn.execute("update outboxd.queue set priority = 1")
    (mine,) = put(conn, "shop.example", **{"queue": "transactional"} | {column: "spring"})
    (other,) = put(conn, "shop.example", queue="transactional")
    from_ = conn.execute("select queue from outboxd.ready where id = %s", (mine,)).fetchone()[0]
    lane = pause.lane(conn, kind, "spring")
    parking.park(conn, slot(from_), "spring", lane, limit=100, kind=kind)
    assert (lanes(conn)[mine], lanes(conn)[other]) == (lane, 0)


def test_a_quota_closes_all_of_a_queue_and_no_other(conn):
    ids = put(conn, "shop.example", "gmail.com", queue="transactional")
    (other,) = put(conn, "shop.example", queue="marketing")
    lane = pause.lane(conn, "quota", "default/transactional")
    parking.park(conn, slot(), "default/transactional", lane, limit=100, kind="quota")
    assert [lanes(conn)[id_] for id_ in (*ids, other)] == [lane, lane, 0]


def test_what_waits_in_one_lane_moves_to_another_that_closed(conn):
    tenant, provider = pause.lane(conn, "tenant", "acme"), pause.lane(conn, "provider", "gmail")
    first, second = put(conn, "gmail.com", "shop.example", tenant="acme")
    assert lanes(conn) == {first: tenant, second: tenant}
    parking.park(conn, slot(lane=tenant), "gmail", provider, limit=100)
    assert lanes(conn) == {first: provider, second: tenant}


def test_a_type_that_every_limit_exempts_stays_out_of_the_lane_that_they_close(conn):
    conn.execute("select outboxd.set_limit('provider_minute', '{\"exempt_types\": [\"reset\"]}')")
    lane = pause.lane(conn, "provider", "gmail", closed_until=datetime.now(UTC) + timedelta(hours=1))
    parked = put(conn, "gmail.com", type="reset")  # the day's limits count it
    for name in ("provider_day", "gmail_day"):
        conn.execute('select outboxd.set_limit(%s, \'{"exempt_types": ["reset"]}\')', (name,))
    free = put(conn, "gmail.com", type="reset")
    other = put(conn, "gmail.com", type="welcome")
    assert lanes(conn) == dict.fromkeys(parked, lane) | dict.fromkeys(free, 0) | dict.fromkeys(other, lane)
    conn.execute("update outboxd.ready set lane = 0")
    parking.park(conn, slot(), "gmail", lane, limit=100)
    assert {lanes(conn)[id_] for id_ in (*parked, *free)} == {0}
    assert {lanes(conn)[id_] for id_ in other} == {lane}
    conn.execute("select outboxd.pause('provider', 'gmail', 'deferrals')")
    late = put(conn, "gmail.com", type="reset")
    assert lanes(conn)[late[0]] == lane
    parking.park(conn, slot(), "gmail", lane, limit=100, paused=True)
    assert set(lanes(conn).values()) == {lane}


def exempt_resets(conn) -> None:
    settings = '{"kind": "tenant", "most": 500, "per": "1 d", "exempt_types": ["reset"]}'
    conn.execute("select outboxd.set_limit('ours', %s)", (settings,))


def test_a_type_that_its_tenant_s_limit_exempts_never_goes_into_the_lane_that_this_closes(conn):
    exempt_resets(conn)
    lane = pause.lane(conn, "tenant", "acme", closed_until=datetime.now(UTC) + timedelta(hours=1))
    reset, other = (put(conn, "shop.example", tenant="acme", type=type_)[0] for type_ in ("reset", "welcome"))
    assert lanes(conn) == {reset: 0, other: lane}
    conn.execute("update outboxd.lane set closed_until = null")
    (later,) = put(conn, "shop.example", tenant="acme", type="reset")
    assert lanes(conn)[later] == 0, "it may close before this is sent"
    conn.execute("select outboxd.set_limit('ours', '{\"exempt_types\": []}')")
    (counted,) = put(conn, "shop.example", tenant="acme", type="reset")
    assert lanes(conn)[counted] == lane


def test_parting_keeps_what_the_limit_exempts_in_a_lane_of_the_tenant_that_this_does_not_close(conn):
    exempt_resets(conn)
    types = ["reset", "welcome"] * 10
    ids = [put(conn, "shop.example", tenant="acme", type=type_)[0] for type_ in types]
    few = put(conn, "shop.example", tenant="other", type="reset")[0]
    assert parking.part(conn, slot(), few=20, limit=100).moved == 20
    kinds = {id_: (kind, key) for id_, kind, key in conn.execute(
        "select ready.id, lane.kind, lane.key from outboxd.ready join outboxd.lane on lane.id = ready.lane"
    )}  # fmt: skip
    assert kinds == {
        id_: ("exempt" if type_ == "reset" else "tenant", "acme")
        for id_, type_ in zip(ids, types, strict=True)
    }
    assert lanes(conn)[few] == 0
    pause.lane(conn, "tenant", "acme", closed_until=datetime.now(UTC) + timedelta(hours=1))
    (late,) = put(conn, "shop.example", tenant="acme", type="reset")
    assert lanes(conn)[late] == lanes(conn)[ids[0]]
    (open_,) = (one for one in lease.slots(conn, "default") if one.due_in <= 0 and one.lane > 0)
    assert open_.lane == lanes(conn)[ids[0]]
    (next_,) = put(conn, "shop.example", tenant="acme", type="welcome")
    assert lanes(conn)[next_] == lanes(conn)[ids[1]]


def test_the_tenants_of_many_emails_are_parted_at_the_price_of_one_look_at_each_type(conn):
    conn.execute("set track_functions = 'all'")
    exempt_resets(conn)
    for _ in range(300):
        put(conn, "shop.example", tenant="acme", type="welcome")
    conn.execute("select pg_stat_reset()")
    assert parking.part(conn, slot(), few=20, limit=1000).moved == 300
    conn.execute("select pg_stat_force_next_flush()")
    calls = conn.execute("select calls from pg_stat_user_functions where funcname = 'is_exempt'").fetchall()
    assert calls == [(1,)]


def test_a_domain_in_no_group_is_its_own(conn):
    ids = put(conn, "shop.example", "other.example")
    lane = pause.lane(conn, "provider", "shop.example")
    parking.park(conn, slot(), "shop.example", lane, limit=100)
    assert [lanes(conn)[id_] for id_ in ids] == [lane, 0]


def test_it_goes_on_where_it_was_and_keeps_every_place(conn):
    put(conn, *["shop.example"] * 25)
    places = conn.execute("select id, scheduled_at from outboxd.ready order by id").fetchall()
    lane, at, seen = pause.lane(conn, "provider", "shop.example"), slot(), []
    while not seen or seen[-1] == 10:
        found = parking.park(conn, at, "shop.example", lane, limit=10)
        assert found.moved == found.seen
        seen.append(found.seen)
        at = found.after
    assert seen == [10, 10, 5]
    assert set(lanes(conn).values()) == {lane}
    assert conn.execute("select id, scheduled_at from outboxd.ready order by id").fetchall() == places


def test_the_others_are_all_that_would_stay(conn):
    ids = put(conn, "gmail.com", "shop.example", "googlemail.com", "yahoo.fr")
    lane = pause.lane(conn, "others", "")
    found = parking.park(conn, slot(), "gmail", lane, limit=100, others=True)
    assert (found.seen, found.moved) == (4, 2)
    assert [lanes(conn)[id_] for id_ in ids] == [0, lane, 0, lane]


def test_an_exempt_type_is_one_of_the_others_unless_people_paused_all(conn):
    for name in ("provider_minute", "provider_day", "gmail_day"):
        conn.execute('select outboxd.set_limit(%s, \'{"exempt_types": ["reset"]}\')', (name,))
    ids = put(conn, "gmail.com", type="reset") + put(conn, "gmail.com", type="welcome")
    lane = pause.lane(conn, "others", "")
    parking.park(conn, slot(), "gmail", lane, limit=100, others=True, paused=True)
    assert [lanes(conn)[id_] for id_ in ids] == [0, 0]
    parking.park(conn, slot(), "gmail", lane, limit=100, others=True)
    assert [lanes(conn)[id_] for id_ in ids] == [lane, 0]


@pytest.mark.parametrize("others", [False, True])
def test_what_is_not_due_is_not_looked_at(conn, others):
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    due = put(conn, "gmail.com", "shop.example")
    later = put(conn, "gmail.com", "shop.example", scheduled_at=tomorrow)
    found = parking.park(conn, slot(), "gmail", pause.lane(conn, "others", ""), limit=100, others=others)
    assert (found.seen, found.moved) == (2, 1)
    assert found.after.after_id == due[-1]
    assert [lanes(conn)[id_] for id_ in later] == [0, 0]


def test_what_somebody_has_locked_is_left_and_not_waited_for(conn, connect):
    first, second = put(conn, "shop.example", "shop.example")
    other = connect()
    with other.transaction():
        other.execute("select from outboxd.ready where id = %s for update", (first,))
        lane = pause.lane(conn, "provider", "shop.example")
        parking.park(conn, slot(), "shop.example", lane, limit=10)
    assert lanes(conn) == {first: 0, second: lane}


def test_nothing_behind_the_watermark_is_nothing_seen(conn):
    assert parking.park(conn, slot(), "shop.example", 7, limit=10) == parking.Moved(0, 0, slot())


def test_whose_a_domain_is_is_asked_once_for_all_its_emails(conn):
    conn.execute("set track_functions = 'all'")
    insert_many(conn, 1000, type="newsletter", to="u@shop.example")
    lane = pause.lane(conn, "provider", "shop.example")
    conn.execute("select pg_stat_reset()")
    (waiting,) = lease.slots(conn, "default")
    found = parking.park(conn, waiting.slot(), "shop.example", lane, limit=1000)
    assert (found.seen, found.moved) == (1000, 1000)
    conn.execute("select pg_stat_force_next_flush()")
    calls = conn.execute(
        "select funcname, calls from pg_stat_user_functions where funcname in ('provider_of', 'is_exempt')"
    ).fetchall()
    assert dict(calls) == {"provider_of": 1, "is_exempt": 1}
