-- The policy of every queue, in serving order.
select queue, priority, weight, max_attempts, backoff, backoff_base, give_up_after, dedupe_for, keep_done_for, keep_done,
  keep_failed_for, keep_failed, critical
from outboxd.queue_policy
order by priority, queue
