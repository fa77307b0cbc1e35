-- One row per type with a policy: what holds for it in its own queue, and what of that is the queue's (`inherited`).
-- Change it by outboxd.set_type.
create or replace view outboxd.type_policy as
select
  email_type.name as type,
  email_type.queue,
  coalesce(email_type.max_attempts, queue.max_attempts) as max_attempts,
  coalesce(email_type.backoff, queue.backoff) as backoff,
  coalesce(email_type.backoff_base, queue.backoff_base) as backoff_base,
  coalesce(email_type.give_up_after, queue.give_up_after) as give_up_after,
  array_remove(array[
    case when email_type.max_attempts is null then 'max_attempts' end,
    case when email_type.backoff is null then 'backoff' end,
    case when email_type.backoff_base is null then 'backoff_base' end,
    case when email_type.give_up_after is null then 'give_up_after' end], null) as inherited
from outboxd.email_type
join outboxd.queue on queue.name = email_type.queue;
