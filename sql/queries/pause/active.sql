-- What must not be asked for at present: pauses, with the seconds until they end, and the breakers that are not closed.
select pause.kind, pause.key,
  extract(epoch from pause.until - (select coalesce(%(now)s::timestamptz, clock_timestamp())))::float8 as ends_in
from outboxd.pause
where pause.until is null or pause.until > (select coalesce(%(now)s::timestamptz, clock_timestamp()))
union all
select 'breaker', breaker.account, null
from outboxd.breaker
where breaker.state <> 'closed'
