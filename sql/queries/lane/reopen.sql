-- Open what limits closed, because policy changed: what is still held closes its lane again, by the limits in force now.
-- Locks in the order of kind and key. Wakes the daemons. No row: nothing was closed.
with instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
), closed as materialized (
  select lane.id
  from outboxd.lane
  where lane.closed_until > (select instant.now from instant)
  order by lane.kind, lane.key
  for update
), opened as (
  update outboxd.lane
  set closed_until = instant.now
  from instant
  where lane.id = any (array(select closed.id from closed)) and lane.closed_until > instant.now
  returning 1
)
select pg_notify('outboxd', '') from opened limit 1
