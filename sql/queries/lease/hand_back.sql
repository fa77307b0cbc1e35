-- Return what a lease holds to ready, unasked: no attempt, no streak, no ambiguity. Returns the ids.
with gone as (
  delete from outboxd.lease where lease.lease_id = %(lease_id)s::uuid returning lease.ids
)
insert into outboxd.ready (id, queue, lane, priority, scheduled_at)
select member.id, coalesce(queue.id, 1::smallint), -least(coalesce(progress.crash_streak, 0), 2),
  coalesce(email.priority, 100::smallint), clock_timestamp()
from gone
cross join lateral unnest(gone.ids) as member (id)
left join outboxd.email on email.id = member.id
left join outboxd.queue on queue.name = email.queue
left join outboxd.progress on progress.id = member.id
on conflict do nothing
returning ready.id
