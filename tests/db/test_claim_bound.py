"""A claim takes no more than its limit, also where a plan would look for due rows once per row."""

import pytest
from factories import claim, insert, insert_many

from outboxd.db import lease

LIMIT = 5
EMAILS = 40
PLANNER = (
    "enable_hashagg",
    "enable_sort",
    "enable_material",
    "enable_tidscan",
    "enable_indexscan",
    "enable_bitmapscan",
)


@pytest.mark.parametrize(
    "switched_off", [(), *((name,) for name in PLANNER), PLANNER], ids=lambda names: "+".join(names) or "none"
)
def test_a_claim_takes_no_more_than_its_limit_whatever_the_plan(conn, switched_off):
    insert_many(conn, EMAILS)
    for name in switched_off:
        conn.execute(f"set {name} = off")
    assert len(claim(conn, limit=LIMIT)) == LIMIT
    assert conn.execute("select count(*) from outboxd.ready").fetchone() == (EMAILS - LIMIT,)


@pytest.mark.parametrize("near", [(10**9, 10**10), (0, 1)])
def test_a_claim_that_brings_other_ids_than_were_guessed_is_read_whole(conn, near):
    """A retry may be far older than what came before it: its partition was not opened for the first read."""
    ids = {insert(conn) for _ in range(2)}
    emails = claim(conn, near=near)
    assert {email.id for email in emails} == ids
    assert all(email.payload and email.uid != lease.NOBODY for email in emails)
