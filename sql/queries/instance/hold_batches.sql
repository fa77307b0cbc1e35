-- Put waiting batches into the lane that nobody claims from; their members by rowcount. Rows locked elsewhere stay.
with held as (
  update outboxd.batch
  set lane = %(held)s::integer
  where batch.batch_uid = any (array(
    select waiting.batch_uid
    from outboxd.batch as waiting
    where waiting.due_at is not null and waiting.lane <> %(held)s::integer
      and (%(due_from)s::timestamptz is null
        or waiting.due_at between %(due_from)s::timestamptz and (select clock_timestamp()))
    for update skip locked))
  returning batch.batch_uid
)
select batch_member.id from outboxd.batch_member join held on held.batch_uid = batch_member.batch_uid
