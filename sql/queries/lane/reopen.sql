-- Open what limits closed, because policy changed: what is still held closes its lane again, by the limits in force now.
-- Wakes the daemons. No row: nothing was closed.
with opened as (
  update outboxd.lane
  set closed_until = instant.now
  from (select coalesce(%(now)s::timestamptz, clock_timestamp()) as now) as instant
  where lane.closed_until > instant.now
  returning 1
)
select pg_notify('outboxd', '') from opened limit 1
