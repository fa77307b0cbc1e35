-- Seconds until the next probe of an account's breaker. A plain read. No row: it is closed.
select extract(epoch from breaker.probe_at - (select coalesce(%(now)s::timestamptz, clock_timestamp())))::float8
from outboxd.breaker
where breaker.account = %(account)s and breaker.state <> 'closed'
