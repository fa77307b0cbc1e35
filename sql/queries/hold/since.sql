-- For how many seconds each of these emails was held since its first failure, by a pause or the breaker of its account:
-- times that overlap count once. In the order given.
with instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
)
select coalesce((
  select sum(extract(epoch from upper(part.span) - lower(part.span)))
  from (
    select unnest(range_agg(tstzrange(period.since, period.until))
      * tstzmultirange(tstzrange(least(given.since, instant.now), instant.now))) as span
    from (
      select hold.kind, hold.key, hold.since, hold.until from outboxd.hold where hold.until > given.since
      union all
      select pause.kind, pause.key, pause.since, greatest(least(pause.until, instant.now), pause.since)
      from outboxd.pause
      union all
      select 'breaker', breaker.account, breaker.opened_at, greatest(breaker.opened_at, instant.now)
      from outboxd.breaker
      where breaker.state <> 'closed') as period
    where (period.kind = any ('{account,breaker}') and period.key = %(account)s)
      or (period.kind, period.key) in
        (('queue', given.queue), ('type', given.type), ('domain', given.domain))) as part), 0)::float8
from unnest(%(since)s::timestamptz[], %(queues)s::text[], %(types)s::text[], %(domains)s::text[])
  with ordinality as given (since, queue, type, domain, place)
cross join instant
order by given.place
