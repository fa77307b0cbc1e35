-- Seconds until the next probe of an account's breaker; 0 where the clock went back behind it. A plain read. No row: it is
-- closed.
select extract(epoch from case
    when breaker.probe_at <= instant.now + breaker.open_for then breaker.probe_at - instant.now else interval '0' end)::float8
from outboxd.breaker
cross join (select coalesce(%(now)s::timestamptz, clock_timestamp()) as now) as instant
where breaker.account = %(account)s and breaker.state <> 'closed'
