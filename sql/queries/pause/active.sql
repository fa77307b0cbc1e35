-- What must not be asked for at present: pauses, with the seconds until they end, and the breakers that are not closed.
-- Why, since and until are for people, as text: Postgres knows instants that Python does not.
select pause.kind, pause.key,
  extract(epoch from nullif(pause.until, 'infinity') - (select coalesce(%(now)s::timestamptz, clock_timestamp())))::float8 as ends_in,
  pause.reason,
  to_char(pause.since at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as since,
  to_char(pause.until at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as until
from outboxd.pause
where pause.until is null or pause.until > (select coalesce(%(now)s::timestamptz, clock_timestamp()))
union all
select 'breaker', breaker.account, null, 'provider_ill',
  to_char(breaker.opened_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), null
from outboxd.breaker
where breaker.state <> 'closed'
