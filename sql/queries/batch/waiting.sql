-- When the first batch of each queue, lane and crash streak falls due, in seconds, and whether it is closed by a pause
-- or the breaker. A quota's lane is closed as in batch/claim, by that of where it is asked. No row: none waits.
select
  waiting.queue, waiting.lane, waiting.crash_streak,
  extract(epoch from greatest(waiting.due_at, shut.until) - (select coalesce(%(now)s::timestamptz, clock_timestamp())))::float8 as due_in,
  exists (
    select
    from outboxd.pause
    where (pause.until is null or pause.until > (select coalesce(%(now)s::timestamptz, clock_timestamp())))
      and ((pause.kind = 'account' and pause.key = %(account)s)
        or (pause.kind = 'queue' and pause.key = queue.name)
        or (pause.kind = lane.kind and pause.key = lane.key))
    union all
    select
    from outboxd.breaker
    where breaker.account = %(account)s and breaker.state <> 'closed') as closed
from (
  select batch.queue, batch.lane, batch.crash_streak, min(batch.due_at) as due_at,
    case when batch.ambiguous then batch.frozen ->> 'account' else %(account)s::text end as asked_at
  from outboxd.batch
  where batch.due_at is not null
  group by batch.queue, batch.lane, batch.crash_streak, asked_at) as waiting
left join outboxd.queue on queue.id = waiting.queue
left join outboxd.lane on lane.id = waiting.lane
cross join lateral (
  select case when lane.kind = 'quota' then outboxd.quota_closed_until(waiting.asked_at, queue.name)
    else lane.closed_until end as until) as shut
