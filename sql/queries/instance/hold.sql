-- Put one lot of waiting emails into the lane that nobody claims from; returns how many by rowcount. `due_from` null:
-- all up to `last_id`. Rows that somebody has locked are left where they are.
update outboxd.ready
set lane = %(held)s::integer
where ready.ctid = any (array(
  select waiting.ctid
  from outboxd.ready as waiting
  where waiting.lane <> %(held)s::integer
    and (%(last_id)s::bigint is null or waiting.id <= %(last_id)s::bigint)
    and (%(due_from)s::timestamptz is null
      or waiting.scheduled_at between %(due_from)s::timestamptz and (select clock_timestamp()))
  limit %(most)s::integer
  for update skip locked))
