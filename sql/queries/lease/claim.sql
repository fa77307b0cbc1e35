-- Move due emails, slot by slot in the order given, from ready into one new lease. Concurrent claims skip each other's
-- rows. The ids come from the DELETE itself: a row that moved meanwhile is not deleted and must not be leased. Rows come
-- in no order; `paused` is what was closed then. No row: nothing due was free, or the account is paused or its breaker
-- open (and that is not what is probed), and no lease was written.
with instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
), head as materialized (
  select due.ctid
  from (
    select where not exists (
      select from outboxd.pause
      where pause.kind = 'account' and pause.key = %(frozen)s::jsonb ->> 'account'
        and %(probed_kind)s::text is distinct from 'account'
        and (pause.until is null or pause.until > (select instant.now from instant))
      union all
      select from outboxd.breaker
      where breaker.account = %(frozen)s::jsonb ->> 'account' and breaker.state <> 'closed'
        and coalesce(%(probed_kind)s::text, '') not in ('account', 'breaker'))) as allowed
  cross join unnest(
    %(queues)s::smallint[], %(lanes)s::integer[], %(priorities)s::smallint[],
    %(after_at)s::timestamptz[], %(after_id)s::bigint[], %(mosts)s::integer[]
  ) with ordinality as slot (queue, lane, priority, after_at, after_id, most, place)
  cross join lateral (
    select ready.ctid
    from outboxd.ready
    where ready.queue = slot.queue and ready.lane = slot.lane and ready.priority = slot.priority
      and ready.scheduled_at <= (select instant.now from instant)
      and (ready.scheduled_at, ready.id) > (slot.after_at, slot.after_id)
    order by ready.scheduled_at, ready.id
    limit least(slot.most, %(limit)s::integer)
    for update skip locked) as due
  limit %(limit)s::integer
), taken as (
  delete from outboxd.ready
  where ready.ctid = any (array(select head.ctid from head))
  returning ready.id, ready.queue, ready.lane, ready.priority, ready.scheduled_at
), leased as (
  insert into outboxd.lease (lease_id, worker, ids, frozen, claimed_at, lease_until)
  select %(lease_id)s::uuid, %(worker)s::uuid, array_agg(taken.id), %(frozen)s::jsonb,
    instant.now, instant.now + %(ttl)s::interval
  from taken
  cross join instant
  group by instant.now
  returning lease.claimed_at
)
select
  taken.id, taken.queue, taken.lane, taken.priority, taken.scheduled_at, leased.claimed_at,
  (select jsonb_agg(jsonb_build_array(closed.kind, closed.key))
   from (
     select pause.kind, pause.key
     from outboxd.pause
     where pause.until is null or pause.until > (select instant.now from instant)
     union all
     select 'breaker', breaker.account
     from outboxd.breaker
     where breaker.state <> 'closed') as closed)::text as paused
from taken
cross join leased
