-- End what waits although it was asked `key_life` ago, or longer, and never answered: `unknown`, claimed or not. Emails
-- and whole batches, at most `limit` of each. What is in hand, or known as accepted, goes its own way; claims and this
-- skip each other's rows. Returns the emails.
with instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
), waiting as materialized (
  select ready.ctid as place
  from (
    select progress.id
    from outboxd.progress
    where progress.ambiguous
      and progress.first_asked_at <= (select instant.now from instant) - %(key_life)s::interval
      and exists (select from outboxd.ready where ready.id = progress.id)
      and not exists (select from outboxd.word where word.id = progress.id and word.kind = 'accepted')
    order by progress.first_asked_at
    limit %(limit)s::integer) as late
  join outboxd.ready on ready.id = late.id
  for update of ready skip locked
), taken as (
  delete from outboxd.ready
  where ready.ctid = any (array(select waiting.place from waiting))
  returning ready.id, ready.queue
), closed as (
  delete from outboxd.batch
  where batch.batch_uid = any (array(
    select late.batch_uid
    from (
      select old.batch_uid
      from outboxd.batch as old
      where old.ambiguous and old.due_at is not null
        and old.first_asked_at <= (select instant.now from instant) - %(key_life)s::interval
      order by old.first_asked_at
      limit %(limit)s::integer
      for update skip locked) as late
    where not exists (
      select
      from outboxd.batch_member
      join outboxd.word on word.id = batch_member.id and word.kind = 'accepted'
      where batch_member.batch_uid = late.batch_uid)))
  returning batch.batch_uid, batch.queue, batch.attempts, batch.first_asked_at, batch.frozen
), unbound as (
  delete from outboxd.batch_member
  where batch_member.batch_uid = any (array(select closed.batch_uid from closed))
  returning batch_member.id, batch_member.batch_uid
), ended as materialized (
  select taken.id, taken.queue, progress.attempts, progress.first_asked_at, progress.frozen,
    progress.generation
  from taken
  join outboxd.progress on progress.id = taken.id
  union all
  select unbound.id, closed.queue, closed.attempts, closed.first_asked_at, closed.frozen,
    coalesce(progress.generation, 1::smallint)
  from unbound
  join closed on closed.batch_uid = unbound.batch_uid
  left join outboxd.progress on progress.id = unbound.id
), forgotten as (
  delete from outboxd.progress where progress.id = any (array(select ended.id from ended))
), heard as (  -- but what somebody holds: that is left to word/apply
  delete from outboxd.word
  where word.ctid = any (array(
    select said.ctid
    from outboxd.word as said
    where said.id = any (array(select ended.id from ended)) and said.kind = 'cancel'
    for update skip locked))
), counted as (
  insert into outboxd.tally as counted (queue, minute, sent, failed)
  select ended.queue, date_trunc('minute', instant.now), 0, count(*)
  from ended
  cross join instant
  group by ended.queue, instant.now
  order by ended.queue
  on conflict (queue, minute) do update set failed = counted.failed + excluded.failed
), buried as (
  insert into outboxd.dead_letter (
    id, uid, certainty, queue, type, tenant, payload, created_at, died_at, error_class, message, signature, attempts,
    history, generation, first_asked_at, frozen, expires_at)
  select
    ended.id, coalesce(email.uid, gen_random_uuid()), 'maybe_accepted', queue.name, coalesce(email.type, ''),
    coalesce(email.tenant, ''), email.payload, email.created_at, instant.now, 'key_expired',
    'an ask of 23 hours ago is still open', 'key_expired', ended.attempts,
    coalesce((
      select jsonb_agg(jsonb_build_object(
        'asked_at', attempt.asked_at, 'ended_at', attempt.ended_at, 'outcome', attempt.outcome,
        'http_status', attempt.http_status, 'name', attempt.error_name, 'message', attempt.message)
        order by attempt.attempt_id)
      from outboxd.attempt
      where attempt.id = ended.id), '[]'),
    ended.generation, ended.first_asked_at, ended.frozen, email.expires_at
  from ended
  cross join instant
  join outboxd.queue on queue.id = ended.queue
  left join outboxd.email on email.id = ended.id
  on conflict do nothing
)
select ended.id from ended
