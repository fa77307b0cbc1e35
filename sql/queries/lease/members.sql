-- What a lease still holds, with what is needed to hand it back unasked. No row: it is settled or reclaimed.
select member.id, coalesce(queue.id, 1::smallint) as queue, coalesce(email.priority, 100::smallint) as priority,
  coalesce(progress.attempts, 0::smallint) as attempts, -least(coalesce(progress.crash_streak, 0), 2) as lane
from outboxd.lease
cross join lateral unnest(lease.ids) as member (id)
left join outboxd.email on email.id = member.id
left join outboxd.queue on queue.name = email.queue
left join outboxd.progress on progress.id = member.id
where lease.lease_id = %(lease_id)s::uuid
