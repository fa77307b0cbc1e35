-- Note that limits hold these emails, and batches, from now until the instants given: only what failed before keeps count
-- of it. Times that follow each other within 5 minutes are one: who waits his turn behind a limit is held by it.
with given as (
  select held.id, held.batch_uid, held.free_at
  from unnest(%(ids)s::bigint[], %(batches)s::uuid[], %(free_at)s::timestamptz[]) as held (id, batch_uid, free_at)
), instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
), together as (
  update outboxd.batch
  set held = batch.held + tstzmultirange(tstzrange(
    case when upper(batch.held) > instant.now - interval '5 min' then least(upper(batch.held), instant.now)
      else instant.now end, greatest(given.free_at, instant.now)))
  from given
  cross join instant
  where batch.batch_uid = given.batch_uid and batch.first_failed_at is not null
)
update outboxd.progress
set held = progress.held + tstzmultirange(tstzrange(
  case when upper(progress.held) > instant.now - interval '5 min' then least(upper(progress.held), instant.now)
    else instant.now end, greatest(given.free_at, instant.now)))
from given
cross join instant
where progress.id = given.id and given.batch_uid is null and progress.first_failed_at is not null
