-- One row per provider account that ever failed: its circuit breaker, why it opened, and its last 20 openings.
create or replace view outboxd.breaker_status as
select
  breaker.account,
  breaker.state,
  (select count(*)
   from unnest(breaker.failed_at) as failure (at)
   where failure.at > clock_timestamp() - breaker.span)::integer as failures,
  breaker.opened_at,
  breaker.probe_at,
  breaker.probes,
  breaker.cause,
  coalesce((
    select jsonb_agg(jsonb_build_object(
      'opened_at', past.since, 'closed_at', past.until, 'cause', past.detail) order by past.until desc)
    from (
      select hold.since, hold.until, hold.detail
      from outboxd.hold
      where hold.kind = 'breaker' and hold.key = breaker.account
      order by hold.until desc
      limit 20) as past), '[]') as history
from outboxd.breaker;
