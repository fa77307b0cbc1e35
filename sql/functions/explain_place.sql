-- How many emails wait before this one in its queue, lane and priority; counted up to 10,000.
create or replace function outboxd.explain_place(
  id bigint, queue_id smallint, lane integer, priority smallint, due_at timestamptz)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
select format('%s before it in queue %s, lane %s, priority %s',
  case when count(*) > 10000 then 'more than 10000' else count(*)::text end,
  (select queue.name from outboxd.queue where queue.id = queue_id), lane, priority)
from (
  select
  from outboxd.ready
  where ready.queue = queue_id and ready.lane = explain_place.lane and ready.priority = explain_place.priority
    and (ready.scheduled_at, ready.id) < (due_at, explain_place.id)
  limit 10001) as before
$$;
