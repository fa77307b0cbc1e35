-- Let held batches go; their members by rowcount.
with free as (
  update outboxd.batch set lane = 0 where batch.lane = %(held)s::integer returning batch.batch_uid
)
select batch_member.id from outboxd.batch_member join free on free.batch_uid = batch_member.batch_uid
