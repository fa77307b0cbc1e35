-- The queues and priorities that have rows in a lane. An index descent for each, and for each queue. No row: it is empty.
with recursive slot as (
  select queue.id as queue, first.priority
  from outboxd.queue
  cross join lateral (
    select ready.priority
    from outboxd.ready
    where ready.queue = queue.id and ready.lane = %(lane)s::integer
    order by ready.priority
    limit 1) as first
  union all
  select slot.queue, following.priority
  from slot
  cross join lateral (
    select ready.priority
    from outboxd.ready
    where ready.queue = slot.queue and ready.lane = %(lane)s::integer and ready.priority > slot.priority
    order by ready.priority
    limit 1) as following
)
select slot.queue, slot.priority from slot
