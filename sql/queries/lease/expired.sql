-- Lock leases whose time is over, oldest first; what a settling daemon holds is skipped. No row: nothing to repair.
select lease.lease_id
from outboxd.lease
where lease.lease_until < (select coalesce(%(now)s::timestamptz, clock_timestamp()))
order by lease.lease_until
limit %(limit)s::integer
for update skip locked
