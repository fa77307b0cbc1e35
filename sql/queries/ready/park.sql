-- Move the emails of one mailbox provider from lane 0 of a (queue, priority) into the provider's lane, where they keep
-- their place: of the next `limit` rows behind the watermark, each touched once. What somebody has locked is skipped.
-- Returns how many rows were looked at and where the last of them stands. No row: nothing is behind the watermark.
with seen as materialized (
  select ready.ctid, ready.id, ready.scheduled_at
  from outboxd.ready
  where ready.queue = %(queue)s::smallint and ready.lane = 0 and ready.priority = %(priority)s::smallint
    and (ready.scheduled_at, ready.id) > (%(after_at)s::timestamptz, %(after_id)s::bigint)
  order by ready.scheduled_at, ready.id
  limit %(limit)s::integer
  for update skip locked
), known as materialized (
  select seen.ctid, split_part(email.recipients[1], '@', 2) as domain
  from seen
  join outboxd.email on email.id = seen.id
), theirs as materialized (
  select met.domain
  from (select distinct known.domain from known) as met
  where coalesce(outboxd.provider_of(met.domain), met.domain) = %(key)s
), parked as (
  update outboxd.ready
  set lane = %(lane)s::integer
  where ready.ctid = any (array(select known.ctid from known join theirs on theirs.domain = known.domain))
)
select (select count(*) from seen), seen.scheduled_at, seen.id
from seen
order by seen.scheduled_at desc, seen.id desc
limit 1
