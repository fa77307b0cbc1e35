"""A probe: one request in spite of a pause or an open breaker, to find out whether it is over.

No more than one leaves. What the gates stop on its way is settled, and once something was stopped, the next probe looks
further, or mail that expires as fast as it comes would keep a breaker open. Who finds nothing gives the probe back.
"""

from typing import Final

from outboxd.db import breaker, lease, pause
from outboxd.db.pause import Probe
from outboxd.db.session import Connection
from outboxd.delivery.leasing import Leasing, lease_batches, lease_emails

FURTHER: Final = 100  # emails that a probe looks at, where the one before it was stopped


def claim_for(leasing: Leasing, conn: Connection, probe: Probe) -> bool:
    """One email, or one batch, for it. False where nothing due was free."""
    whole = probe.kind in {"account", "breaker"}
    lane = None if whole else pause.lane(conn, probe.kind, probe.key)
    open_ = lease.slots(conn, leasing.home.account, probe=probe)
    due = [one for one in open_ if one.due_in <= 0 and not one.closed and lane in {None, one.lane}]
    wanted = [
        leasing.past_crowd(one.from_first())
        for one in sorted(due, key=lambda one: (one.priority, one.due_in))
    ]
    fresh, suspects = [one for one in wanted if one.lane >= 0], [one for one in wanted if one.lane < 0]
    most = FURTHER if leasing.stopped_probe else 1
    if fresh and lease_emails(leasing, conn, fresh, most, probe=probe):
        return True
    if suspects and lease_emails(leasing, conn, suspects, 1, probe=probe):
        return True
    if lease_batches(leasing, conn, limit=1, lane=lane, probe=probe):
        return True
    if probe.kind == "breaker":
        breaker.put_off_probe(conn, probe)
    else:
        pause.put_off_probe(conn, probe)
    return False
