-- Whether the dedupe key that email `id` holds is free again: `dedupe_for` of its queue has passed since its end.
-- Derived from the outcome, so that no daemon ever writes a row that an application's transaction may hold.
create or replace function outboxd.released(id bigint) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
select exists (
    select from outboxd.delivery as ended
    join outboxd.queue on queue.id = ended.queue
    where ended.id = released.id and ended.at + queue.dedupe_for <= clock_timestamp())
  or exists (
    select from outboxd.dead_letter as died
    join outboxd.queue on queue.name = died.queue
    where died.id = released.id and died.died_at + queue.dedupe_for <= clock_timestamp())
$$;
