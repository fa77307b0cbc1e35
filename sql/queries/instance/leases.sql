-- How many leases there are, and how long until the last one ends, in seconds.
select count(*), coalesce(extract(epoch from max(lease.lease_until) - (select clock_timestamp())), 0)::float8
from outboxd.lease
