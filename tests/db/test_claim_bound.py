"""A claim takes no more than its limit, also where a plan would look for due rows once per row."""

import pytest
from factories import claim, insert_many

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
