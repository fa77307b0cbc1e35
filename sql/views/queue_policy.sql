-- One row per queue: its policy. Change it by outboxd.set_queue.
create or replace view outboxd.queue_policy as
select queue.name as queue, queue.priority, queue.max_attempts, queue.backoff, queue.backoff_base, queue.give_up_after,
  queue.dedupe_for, queue.keep_done_for, queue.keep_done, queue.keep_failed_for, queue.keep_failed, queue.critical,
  queue.weight
from outboxd.queue;
