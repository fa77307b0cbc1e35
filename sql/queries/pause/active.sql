-- What must not be asked for at present: pauses, and the breakers that are not closed.
select pause.kind, pause.key
from outboxd.pause
where pause.until is null or pause.until > (select coalesce(%(now)s::timestamptz, clock_timestamp()))
union all
select 'breaker', breaker.account
from outboxd.breaker
where breaker.state <> 'closed'
