-- Of the next `limit` rows of a slot behind the watermark, due by `upto` (null: now), move into `lane` the emails of one
-- provider, campaign, tenant, type or queue (of a `quota`, which closes a queue: all), or (`others`) all but those. They
-- keep their place, are touched once, and left where somebody has locked them. An exempt type is not theirs, unless a
-- pause closed it. Returns how many rows were looked at and were moved, and where the last of them stands. No row: none.
with seen as materialized (
  select ready.ctid, ready.id, ready.scheduled_at
  from outboxd.ready
  where ready.queue = %(queue)s::smallint and ready.lane = %(from_lane)s::integer
    and ready.priority = %(priority)s::smallint
    and (ready.scheduled_at, ready.id) > (%(after_at)s::timestamptz, %(after_id)s::bigint)
    and ready.scheduled_at <= (select coalesce(%(upto)s::timestamptz, clock_timestamp()))
  order by ready.scheduled_at, ready.id
  limit %(limit)s::integer
), known as materialized (
  select seen.ctid, email.type, case %(kind)s::text
    when 'campaign' then email.campaign when 'tenant' then email.tenant when 'type' then email.type
    when 'queue' then email.queue when 'quota' then %(key)s::text else split_part(email.recipients[1], '@', 2) end as mine
  from seen
  join outboxd.email on email.id = seen.id
), met as materialized (  -- so that functions are called for each, not for each email
  select distinct known.mine, known.type from known
), theirs as materialized (
  select met.mine, met.type
  from met
  where case %(kind)s::text when 'provider' then coalesce(outboxd.provider_of(met.mine), met.mine) else met.mine end
      = %(key)s
    and (%(paused)s::boolean or not outboxd.is_exempt(%(kind)s::text, %(key)s::text, met.type))
), free as materialized (
  select ready.ctid
  from outboxd.ready
  where ready.ctid = any (array(
      select known.ctid
      from known
      left join theirs on theirs.mine = known.mine and theirs.type = known.type
      where (theirs.mine is null) = %(others)s::boolean))
    and ready.lane + 0 = %(from_lane)s::integer  -- another daemon may have moved it; `+ 0` keeps this from being a scan
  for update skip locked
), parked as (
  update outboxd.ready
  set lane = %(lane)s::integer
  where ready.ctid = any (array(select free.ctid from free))
)
select (select count(*) from seen), (select count(*) from free), seen.scheduled_at, seen.id
from seen
order by seen.scheduled_at desc, seen.id desc
limit 1
