-- Hold the leases that have these emails now, in order, so that their settles wait for the words and then read them.
select lease.lease_id
from outboxd.lease
where lease.ids && %(ids)s::bigint[]
order by lease.lease_id
for share
