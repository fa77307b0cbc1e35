"""What is put back before a crowd, after its mover had passed the place, leaves while the rest of the crowd moves."""

import json
from dataclasses import replace

from factories import batched, claim, insert, insert_many, payload, settle_parcel, slot
from test_turns import HUNDRED, Daemon

from outboxd.core.batch import Parcel
from outboxd.core.outcome import Failed, Failure, Returned
from outboxd.delivery.claimer import _fill, _scan_from_head
from outboxd.delivery.parking import LEISURE, Crowd
from outboxd.delivery.settler import settle

CROWD = 2_000
BULK = """
insert into outboxd.email (type, payload, campaign)
select 'welcome', jsonb_set(%s::jsonb, '{to}', to_jsonb('r' || n || '@d' || n %% 50 || '.example')), 'mine'
from generate_series(1, %s) as n
"""


def step(daemon: Daemon) -> None:
    """The mover's next, as if it had rested."""
    leasing = daemon.claimer.leasing
    leasing.crowds = [replace(crowd, due=0.0) for crowd in leasing.crowds]
    leasing.move(daemon.conn)


def claimed(daemon: Daemon) -> set[int]:
    """Claim once, after a scan from the head, and settle what was refused."""
    _scan_from_head(daemon.claimer, daemon.conn)
    _fill(daemon.claimer, daemon.conn, HUNDRED)
    inbox = daemon.claimer.leasing.settler.inbox
    refused = [inbox.get() for _ in range(inbox.qsize())]
    if refused:
        settle(daemon.claimer.leasing.settler, daemon.conn, refused)
    return set(daemon.taken())


def moving(conn) -> Daemon:
    """A daemon that has moved the first of a paused campaign's crowd at leisure, and nobody stands in it."""
    conn.execute(BULK, (json.dumps(payload()), CROWD))
    conn.execute("select outboxd.pause('campaign', 'mine', 'wrong')")
    conn.execute("update outboxd.ready set lane = 0")  # as those stand that were there before
    daemon = Daemon(conn)
    assert not claimed(daemon)
    while not waits_in_lane(conn, 3 * LEISURE[1]):
        step(daemon)
    (crowd,) = daemon.claimer.leasing.crowds
    assert crowd.is_left()
    assert not claimed(daemon)
    return daemon


def waits_in_lane(conn, more_than: int) -> bool:
    (parked,) = conn.execute("select count(*) from outboxd.ready where lane > 0").fetchone()
    return parked > more_than + HUNDRED


def leave(daemon: Daemon, ids: set[int], *, steps: int = 2) -> bool:
    """Whether these are claimed after so many steps, with no other, and most of the crowd stands where it stood."""
    came = claimed(daemon)
    for _ in range(steps):
        step(daemon)
        came |= claimed(daemon)
    (left,) = daemon.conn.execute("select count(*) from outboxd.ready where lane = 0").fetchone()
    return came == ids and left > CROWD / 2


def test_members_of_a_batch_that_is_taken_apart_do_not_wait_for_the_crowd(conn, connect):
    parcel = batched(conn, connect(), 10)
    settle_parcel(conn, parcel, Failed(Failure("transient", "500")))
    conn.execute("update outboxd.batch set due_at = clock_timestamp() + interval '1 hour'")
    daemon = moving(conn)
    first, *others = [email.id for email in parcel.emails]
    conn.execute("select outboxd.cancel(uid) from outboxd.email where id = %s", (first,))
    conn.execute("update outboxd.batch set due_at = clock_timestamp()")
    assert not claimed(daemon), "the batch is taken apart"
    assert leave(daemon, set(others))


def test_what_another_daemon_gives_back_does_not_wait_for_the_crowd(conn):
    insert_many(conn, HUNDRED)
    held = claim(conn, limit=HUNDRED)
    daemon = moving(conn)
    for email in held:
        settle_parcel(conn, Parcel((email,)), Returned(), asked_at=None)
    assert leave(daemon, {email.id for email in held})


def test_the_mover_goes_back_once_for_a_row_that_somebody_has_locked(conn, connect):
    insert(conn)
    (email,) = claim(conn, limit=1)
    daemon = moving(conn)
    settle_parcel(conn, Parcel((email,)), Returned(), asked_at=None)
    other = connect()
    with other.transaction():
        other.execute("select from outboxd.ready where id = %s for update", (email.id,))
        assert not claimed(daemon)
        (back,) = daemon.claimer.leasing.crowds
        assert back.slot.after_id == email.id - 1
        step(daemon)
        assert not claimed(daemon)
        (crowd,) = daemon.claimer.leasing.crowds
        assert crowd.slot.watermark() > back.slot.watermark()


def test_the_mover_does_not_go_back_while_others_are_looked_for_or_stay_in_the_crowd():
    crowd = Crowd(
        "campaign", "mine", None, slot=replace(slot(), after_id=9), behind=replace(slot(), after_id=20)
    )
    first = replace(slot(), after_id=4)
    assert crowd.again_from(first).slot == first
    for other in (
        replace(crowd, looks_again=True),
        replace(crowd, behind=None),
        replace(crowd, behind=crowd.head()),
        replace(crowd, slot=first),
    ):
        assert other.again_from(first) == other
