-- Every (queue, lane, priority) that has rows, when its first one falls due, and whether it is closed by a pause or the
-- breaker, but for what is probed. One index descent per slot, no locks: what a rolling-back cancel holds is seen too. Lane
-- -1000 is held back. `first_at`, `first_id` spare the claim a walk over what is dead before it. No row: nothing waits.
with recursive slot as (
  (select ready.queue, ready.lane, ready.priority, ready.scheduled_at, ready.id
   from outboxd.ready
   order by ready.queue, ready.lane, ready.priority, ready.scheduled_at, ready.id
   limit 1)
  union all
  select following.queue, following.lane, following.priority, following.scheduled_at, following.id
  from slot
  cross join lateral (
    select ready.queue, ready.lane, ready.priority, ready.scheduled_at, ready.id
    from outboxd.ready
    where (ready.queue, ready.lane, ready.priority) > (slot.queue, slot.lane, slot.priority)
    order by ready.queue, ready.lane, ready.priority, ready.scheduled_at, ready.id
    limit 1) as following
)
select
  slot.queue, slot.lane, slot.priority,
  extract(epoch from greatest(slot.scheduled_at, shut.until)
    - (select coalesce(%(now)s::timestamptz, clock_timestamp())))::float8 as due_in,
  exists (
    select from outboxd.pause
    where (pause.until is null or pause.until > (select coalesce(%(now)s::timestamptz, clock_timestamp())))
      and (pause.kind, pause.key) is distinct from (%(probed_kind)s::text, %(probed_key)s::text)
      and ((pause.kind = 'account' and pause.key = %(account)s)
        or (pause.kind = 'queue' and pause.key = queue.name)
        or (pause.kind = lane.kind and pause.key = lane.key))
    union all
    select from outboxd.breaker
    where breaker.account = %(account)s and breaker.state <> 'closed'
      and coalesce(%(probed_kind)s::text, '') not in ('account', 'breaker')) as closed,
  extract(epoch from slot.scheduled_at - (select coalesce(%(now)s::timestamptz, clock_timestamp())))::float8 as oldest_in,
  coalesce(queue.weight, 1) as weight,
  case when shut.until > (select coalesce(%(now)s::timestamptz, clock_timestamp())) - interval '1 min' then 10 end
    as most,
  slot.scheduled_at as first_at, slot.id as first_id
from slot
left join outboxd.queue on queue.id = slot.queue
left join outboxd.lane on lane.id = slot.lane
cross join lateral (select case when lane.kind = 'quota' then outboxd.quota_closed_until(%(account)s, queue.name)
  else lane.closed_until end as until) as shut
where slot.lane <> -1000
order by slot.priority, slot.queue, slot.lane desc
