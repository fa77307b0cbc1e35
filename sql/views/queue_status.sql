-- One row per queue: what waits now, alone or in a batch, from the hot tables; what ended within 24 h, from the tally.
-- `paused`: all of it stands still. `pause_reason` also names what holds a part of it (a domain, a type, …) that is due;
-- since the first of them began and until the last ends, null where that is not known. `blocked` is what pauses hold, and
-- what waits in lanes that limits closed; `oldest_due_seconds` leaves the latter out, which waits as policy wants it.
create or replace view outboxd.queue_status as
select
  queue.name as queue,
  stopped.whole as paused,
  coalesce(waiting.scheduled, 0) as scheduled,
  case when stopped.whole then 0 else coalesce(waiting.ready, 0) end as ready,
  coalesce(hand.sending, 0) as sending,
  coalesce(waiting.retrying, 0) as retrying,
  coalesce(waiting.scheduled, 0) + coalesce(waiting.retrying, 0) as delayed,
  coalesce(waiting.blocked, 0) + case when stopped.whole then coalesce(waiting.ready, 0) else 0 end as blocked,
  coalesce(dead.dead, 0) as dead,
  coalesce(dead.unknown, 0) as unknown,
  coalesce(ended.sent, 0) as sent_24h,
  coalesce(ended.failed, 0) as failed_24h,
  coalesce(extract(epoch from clock_timestamp() - waiting.oldest_due), 0)::double precision as oldest_due_seconds,
  stopped.reason as pause_reason,
  stopped.since as paused_since,
  stopped.until as paused_until
from outboxd.queue
left join lateral (
  select
    coalesce(bool_or(holding.whole), false) as whole,
    string_agg(format('%s %s: %s', holding.kind, holding.key, holding.reason), '; ' order by holding.kind, holding.key)
      as reason,
    min(holding.since) as since,
    case when bool_and(holding.until is not null) then max(holding.until) end as until
  from (
    select
      pauses.kind, pauses.key, pauses.reason, pauses.since, pauses.until, lane.id as lane,
      pauses.kind in ('account', 'breaker') or (pauses.kind = 'queue' and pauses.key = queue.name) as whole
    from outboxd.pauses
    left join outboxd.lane on lane.kind = pauses.kind and lane.key = pauses.key) as holding
  where holding.whole
    or exists (
      select
      from outboxd.ready
      where ready.queue = queue.id and ready.lane = holding.lane and ready.scheduled_at <= clock_timestamp())
    or exists (
      select
      from outboxd.batch
      where batch.queue = queue.id and batch.lane = holding.lane and batch.due_at <= clock_timestamp())) as stopped on true
left join (
  select
    waits.queue,
    count(*) filter (where waits.held or (closed.id is not null and waits.due_at <= clock_timestamp())) as blocked,
    count(*) filter (where not waits.held and closed.id is null and waits.due_at <= clock_timestamp()) as ready,
    count(*) filter (where not waits.held and waits.due_at > clock_timestamp() and not waits.asked) as scheduled,
    count(*) filter (where not waits.held and waits.due_at > clock_timestamp() and waits.asked) as retrying,
    min(waits.due_at) filter (
      where not waits.held and closed.by_limit is not true and waits.due_at <= clock_timestamp()) as oldest_due
  from (
    select ready.queue, ready.lane, ready.scheduled_at as due_at, ready.lane = -1000 as held, progress.id is not null as asked
    from outboxd.ready
    left join outboxd.progress on progress.id = ready.id
    union all
    select batch.queue, batch.lane, batch.due_at, batch.due_at >= '9999-01-01 utc', true
    from outboxd.batch
    join outboxd.batch_member on batch_member.batch_uid = batch.batch_uid
    where batch.due_at is not null) as waits
  left join (
    select lane.id, pauses.key is null as by_limit
    from outboxd.lane_closed as lane
    left join outboxd.pauses on (pauses.kind, pauses.key) = (lane.kind, lane.key)
    where pauses.key is not null or lane.until > clock_timestamp()) as closed on closed.id = waits.lane
  group by waits.queue
) as waiting on waiting.queue = queue.id
left join (
  select email.queue, count(*) as sending
  from outboxd.lease
  cross join lateral unnest(lease.ids) as member (id)
  join outboxd.email on email.id = member.id
  group by email.queue
) as hand on hand.queue = queue.name
left join (
  select
    dead_letter.queue,
    count(*) filter (where dead_letter.certainty = 'not_accepted') as dead,
    count(*) filter (where dead_letter.certainty = 'maybe_accepted') as unknown
  from outboxd.dead_letter
  group by dead_letter.queue
) as dead on dead.queue = queue.name
left join (
  select tally.queue, sum(tally.sent) as sent, sum(tally.failed) as failed
  from outboxd.tally
  where tally.minute > (select clock_timestamp()) - interval '24 h'
  group by tally.queue
) as ended on ended.queue = queue.id;
