"""An hour on a clock of the test's own, with the highest priority saturated: the lowest moves all the time."""

import itertools
from datetime import timedelta
from uuid import uuid4

import pytest
from factories import HOME, insert_many

from outboxd.core.fairness import AGEING, Candidate, serve
from outboxd.db import lease
from outboxd.db.lease import Slot

LIMIT = 20


@pytest.mark.slow
def test_the_lowest_priority_moves_through_an_hour_of_claims_while_the_highest_is_saturated(conn):
    insert_many(conn, 4000, type="newsletter")
    low = {id_ for (id_,) in conn.execute("select id from outboxd.email").fetchall()}
    start = conn.execute("select max(scheduled_at) from outboxd.ready").fetchone()[0]
    moved: list[float] = []
    for turn in range(240):  # one claim in 15 seconds
        now = start + timedelta(seconds=15 * turn)
        fill(conn, LIMIT, now)
        waiting = [one for one in lease.slots(conn, "default", now=now) if one.due_in <= 0]
        candidates = [
            Candidate(place, one.priority, one.queue, one.weight, -one.oldest_in, one.most)
            for place, one in enumerate(waiting)
        ]
        wanted = [
            Slot(waiting[place].queue, waiting[place].lane, waiting[place].priority, most=most)
            for place, most in serve(candidates, LIMIT, turn)
        ]
        claimed = lease.claim(
            conn,
            wanted,
            lease_id=uuid4(),
            worker=uuid4(),
            frozen=HOME,
            ttl=timedelta(hours=2),
            limit=LIMIT,
            now=now,
        ).emails
        assert len(claimed) == LIMIT
        if low & {email.id for email in claimed}:
            moved.append(15.0 * turn)
    gaps = [after - before for before, after in itertools.pairwise([0.0, *moved])]
    assert max(gaps) <= 2 * AGEING
    assert moved[-1] >= 3600 - 2 * AGEING


def fill(conn, emails: int, now) -> None:
    """The first priority has at least this many that are due."""
    conn.execute(
        """
        with made as (insert into outboxd.email (type, payload)
          select 'reset', payload from outboxd.email cross join generate_series(1, %s)
          where id = (select min(id) from outboxd.email) returning id)
        select from made
        """,
        (emails,),
    )
    conn.execute("update outboxd.ready set scheduled_at = %s where priority = 1", (now,))
