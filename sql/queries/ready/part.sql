-- Of the next `limit` due emails of a slot behind the watermark, move those of a tenant that has a lane, or more than a few
-- of them and gets one now, into that lane, where they keep their place; what the tenant's limit exempts into another.
-- Only what moves is locked, and what somebody has locked stays. Returns how many rows were looked at and are such a
-- tenant's, moved here or locked by who moves them, and where the last of them stands. No row: nothing is behind it.
with seen as materialized (
  select ready.ctid, ready.id, ready.scheduled_at
  from outboxd.ready
  where ready.queue = %(queue)s::smallint and ready.lane = 0 and ready.priority = %(priority)s::smallint
    and (ready.scheduled_at, ready.id) > (%(after_at)s::timestamptz, %(after_id)s::bigint)
    and ready.scheduled_at <= (select clock_timestamp())
  order by ready.scheduled_at, ready.id
  limit %(limit)s::integer
), known as materialized (
  select seen.ctid, email.tenant, email.type from seen join outboxd.email on email.id = seen.id where email.tenant <> ''
), met as materialized (
  select known.tenant, known.type, sum(count(*)) over (partition by known.tenant) as emails,
    case when outboxd.is_exempt('tenant', known.tenant, known.type) then 'exempt' else 'tenant' end as kind
  from known group by known.tenant, known.type
), made as (
  insert into outboxd.lane as had (kind, key)
  select distinct met.kind, met.tenant from met where met.emails >= %(few)s::integer order by met.kind, met.tenant
  on conflict (kind, key) do update set kind = excluded.kind returning had.id, had.kind, had.key
), theirs as materialized (
  select made.id, made.kind, made.key from made
  union
  select lane.id, lane.kind, lane.key from met join outboxd.lane on lane.kind = met.kind and lane.key = met.tenant
), mine as materialized (
  select known.ctid, theirs.id as lane
  from known join met using (tenant, type) join theirs on theirs.kind = met.kind and theirs.key = met.tenant
), free as materialized (
  select mine.ctid, mine.lane
  from mine
  cross join lateral (
    select from outboxd.ready where ready.ctid = mine.ctid and ready.lane + 0 = 0 for update skip locked) as still
), parted as (
  update outboxd.ready set lane = free.lane from free where ready.ctid = free.ctid
)
select (select count(*) from seen), (select count(*) from mine), seen.scheduled_at, seen.id
from seen order by seen.scheduled_at desc, seen.id desc limit 1
