-- Put back every email between two ids that is in no table of a state; returns how many. For a restore, or in doubt.
-- One statement sees one instant, and each move between those tables is one transaction, so what it finds is really in
-- none. Such an email may have been asked: it is ambiguous since it fell due, unless `never_asked` vouches for it.
create or replace function outboxd.rebuild_ready(from_id bigint, to_id bigint, never_asked boolean default false)
returns bigint
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
with missing as (
  select email.id, queue.id as queue, email.priority, email.scheduled_at, email.created_at
  from outboxd.email
  join outboxd.queue on queue.name = email.queue
  where email.id between from_id and to_id
    and not exists (select from outboxd.ready where ready.id = email.id)
    and not exists (select from outboxd.delivery where delivery.id = email.id)
    and not exists (select from outboxd.dead_letter where dead_letter.id = email.id)
    and not exists (select from outboxd.batch_member where batch_member.id = email.id)
    and email.id not in (select unnest(lease.ids) from outboxd.lease)
), back as (
  insert into outboxd.ready (id, queue, priority, scheduled_at)
  select id, queue, priority, greatest(scheduled_at, clock_timestamp()) from missing
  on conflict do nothing
  returning id
), doubted as (
  insert into outboxd.progress as known (id, ambiguous, first_asked_at, frozen)
  select missing.id, true, greatest(missing.scheduled_at, missing.created_at), '{}'
  from missing
  join back on back.id = missing.id
  where not never_asked and missing.scheduled_at <= clock_timestamp()
  on conflict (id) do update
  set ambiguous = true, first_asked_at = coalesce(known.first_asked_at, excluded.first_asked_at)
)
select count(*) from back
$$;
