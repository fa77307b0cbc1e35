-- Return what a lease holds, unasked: no attempt, no streak, no ambiguity. Members of a batch go back with their
-- batch, the others to ready. Returns the ids.
with gone as (
  delete from outboxd.lease where lease.lease_id = %(lease_id)s::uuid returning lease.ids
), member as materialized (
  select left_over.id, batch_member.batch_uid
  from gone
  cross join lateral unnest(gone.ids) as left_over (id)
  left join outboxd.batch_member on batch_member.id = left_over.id
), kept as (
  update outboxd.batch
  set due_at = clock_timestamp()
  where batch.batch_uid = any (array(select distinct member.batch_uid from member))
), back as (
  insert into outboxd.ready (id, queue, lane, priority, scheduled_at)
  select member.id, coalesce(queue.id, 1::smallint), -least(coalesce(progress.crash_streak, 0), 2),
    coalesce(email.priority, 100::smallint), clock_timestamp()
  from member
  left join outboxd.email on email.id = member.id
  left join outboxd.queue on queue.name = email.queue
  left join outboxd.progress on progress.id = member.id
  where member.batch_uid is null
  on conflict do nothing
)
select member.id from member
