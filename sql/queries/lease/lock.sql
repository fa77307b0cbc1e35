-- Lock the leases that are about to be settled, in order. Whoever leaves a word for one of their emails has
-- committed before this returns, so the next statement's snapshot sees it. No row: all of them are lost.
select lease.lease_id
from outboxd.lease
where lease.lease_id = any (%(lease_ids)s::uuid[])
order by lease.lease_id
for update
