-- The settings of a queue as outboxd.set_queue takes them; null where there is no such queue.
create or replace function outboxd.queue_settings(name text) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
select jsonb_build_object(
    'priority', queue.priority, 'weight', queue.weight, 'max_attempts', queue.max_attempts, 'backoff', queue.backoff,
    'backoff_base', outboxd.duration_text(queue.backoff_base),
    'give_up_after', outboxd.duration_text(queue.give_up_after),
    'dedupe_for', outboxd.duration_text(queue.dedupe_for),
    'keep_done_for', outboxd.duration_text(queue.keep_done_for), 'keep_done', queue.keep_done,
    'keep_failed_for', outboxd.duration_text(queue.keep_failed_for), 'keep_failed', queue.keep_failed,
    'critical', queue.critical)
from outboxd.queue
where queue.name = queue_settings.name
$$;
