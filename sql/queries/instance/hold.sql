-- Put what waits in some blocks of the table into the lane that nobody claims from, of emails up to `last_id`; `due_by` null:
-- due at any time. Rows that somebody has locked are left where they are. Returns how many, and whether these blocks
-- were the last.
with held as (
  update outboxd.ready
  set lane = %(held)s::integer
  where ready.ctid = any (array(
    select waiting.ctid
    from outboxd.ready as waiting
    where waiting.ctid >= format('(%%s,0)', %(from)s::bigint)::tid
      and waiting.ctid < format('(%%s,0)', %(to)s::bigint)::tid
      and waiting.lane <> %(held)s::integer
      and waiting.id <= %(last_id)s::bigint
      and (%(due_by)s::timestamptz is null or waiting.scheduled_at <= %(due_by)s::timestamptz)
    for update skip locked))
  returning ready.id
)
select
  (select count(*) from held),
  %(to)s::bigint * current_setting('block_size')::bigint >= pg_relation_size('outboxd.ready')
