-- The retry policy of every queue (type is null), and of every type with values of its own in every queue.
select queue.name as queue, null::text as type, queue.max_attempts, queue.backoff, queue.backoff_base,
  queue.give_up_after, queue.batch
from outboxd.queue
union all
select queue.name, email_type.name,
  coalesce(email_type.max_attempts, queue.max_attempts), coalesce(email_type.backoff, queue.backoff),
  coalesce(email_type.backoff_base, queue.backoff_base), coalesce(email_type.give_up_after, queue.give_up_after),
  queue.batch and not email_type.secret
from outboxd.email_type
cross join outboxd.queue
