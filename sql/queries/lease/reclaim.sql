-- Put back what is left in the leases that lease/expired locked: each email counts as asked at its claim. A crash
-- streak grows unless crash_limit is 0; at the limit the email is quarantined as unknown. An acceptance that was
-- recorded meanwhile ends its email as sent. Returns one row per email and what became of it.
with instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
), gone as (
  delete from outboxd.lease
  where lease.lease_id = any (%(lease_ids)s::uuid[])
  returning lease.lease_id, lease.ids, lease.frozen, lease.claimed_at
), member as materialized (
  select
    left_over.id, gone.lease_id, gone.claimed_at, instant.now,
    case
      when batch.batch_uid is not null then batch.frozen
      when progress.ambiguous then coalesce(nullif(progress.frozen, '{}'), gone.frozen)
      else gone.frozen || coalesce(progress.frozen, '{}') || jsonb_build_object(
        'account', gone.frozen -> 'account', 'api_url', gone.frozen -> 'api_url')
    end as frozen,
    email.uid, email.type, email.tenant, email.payload, email.created_at, email.expires_at,
    coalesce(queue.id, 1::smallint) as queue, coalesce(email.queue, queue.name, '') as queue_name,
    coalesce(email.priority, 100::smallint) as priority,
    coalesce(batch.attempts, progress.attempts, 0::smallint) as attempts,
    case
      when coalesce(batch.ambiguous, progress.ambiguous)
        or coalesce(batch.first_asked_at, progress.first_asked_at) >= gone.claimed_at - interval '23 h'
        then coalesce(batch.first_asked_at, progress.first_asked_at, gone.claimed_at)
      else gone.claimed_at
    end as first_asked_at,
    coalesce(progress.generation, 1::smallint) as generation,
    coalesce(batch.crash_streak, progress.crash_streak, 0)
      + case when %(crash_limit)s::integer > 0 then 1 else 0 end as streak,
    batch_member.batch_uid,
    (select max(word.provider_id) from outboxd.word where word.id = left_over.id) as accepted_as
  from gone
  cross join instant
  cross join lateral unnest(gone.ids) as left_over (id)
  left join outboxd.email on email.id = left_over.id
  left join outboxd.queue on queue.name = email.queue
  left join outboxd.progress on progress.id = left_over.id
  left join outboxd.batch_member on batch_member.id = left_over.id
  left join outboxd.batch on batch.batch_uid = batch_member.batch_uid
), decided as materialized (
  select member.*,
    case
      when bool_and(member.accepted_as is not null) over (partition by coalesce(member.batch_uid::text, member.id::text))
        then 'sent'
      when %(crash_limit)s::integer > 0 and member.streak >= %(crash_limit)s::integer then 'unknown'
      when member.batch_uid is not null then 'kept'
      else 'again'
    end as taken
  from member
), back as (
  insert into outboxd.ready (id, queue, lane, priority, scheduled_at)
  select decided.id, decided.queue, -least(decided.streak, 2), decided.priority, decided.now
  from decided
  where decided.taken = 'again'
  on conflict do nothing
), kept as (
  update outboxd.batch
  set due_at = stays.now, crash_streak = stays.streak,
    ambiguous = batch.ambiguous or not batch.rejected,
    last_ambiguous_at = case when batch.rejected then batch.last_ambiguous_at else stays.now end,
    first_asked_at = stays.first_asked_at,
    last_error = 'its lease ended without an outcome'
  from (select distinct decided.batch_uid, decided.now, decided.streak,
      min(decided.first_asked_at) over (partition by decided.batch_uid) as first_asked_at
    from decided
    where decided.taken = 'kept') as stays
  where batch.batch_uid = stays.batch_uid
), closed as (
  delete from outboxd.batch
  where batch.batch_uid = any (array(select decided.batch_uid from decided where decided.taken <> 'kept'))
), unbound as (
  delete from outboxd.batch_member
  where batch_member.id = any (array(
    select decided.id from decided where decided.batch_uid is not null and decided.taken <> 'kept'))
), remembered as (
  insert into outboxd.progress as known (id, attempts, crash_streak, first_asked_at, ambiguous, frozen, last_error)
  select decided.id, decided.attempts, decided.streak, decided.first_asked_at, true, decided.frozen,
    'its lease ended without an outcome'
  from decided
  where decided.taken = 'again'
  on conflict (id) do update
  set crash_streak = excluded.crash_streak, first_asked_at = excluded.first_asked_at, ambiguous = true,
    frozen = excluded.frozen, last_error = excluded.last_error
), ended as (
  insert into outboxd.delivery (id, state, queue, attempts, provider_id, at)
  select decided.id, 'sent', decided.queue, decided.attempts + 1, decided.accepted_as, decided.now
  from decided
  where decided.taken = 'sent'
  on conflict do nothing
), buried as (
  insert into outboxd.dead_letter (
    id, uid, certainty, queue, type, tenant, payload, created_at, died_at, error_class, message, signature,
    attempts, history, generation, first_asked_at, frozen, expires_at)
  select
    decided.id, coalesce(decided.uid, gen_random_uuid()), 'maybe_accepted', decided.queue_name,
    coalesce(decided.type, ''), coalesce(decided.tenant, ''), decided.payload, decided.created_at, decided.now,
    'crash_limit', format('%%s leases in a row ended without an outcome', decided.streak), 'crash_limit',
    decided.attempts,
    coalesce((
      select jsonb_agg(jsonb_build_object(
        'asked_at', attempt.asked_at, 'ended_at', attempt.ended_at, 'outcome', attempt.outcome,
        'http_status', attempt.http_status, 'name', attempt.error_name, 'message', attempt.message)
        order by attempt.attempt_id)
      from outboxd.attempt
      where attempt.id = decided.id), '[]')
    || jsonb_build_array(jsonb_build_object(
      'asked_at', decided.claimed_at, 'ended_at', decided.now, 'outcome', 'lease_expired', 'http_status', null,
      'name', null, 'message', 'its lease ended without an outcome')),
    decided.generation, decided.first_asked_at, decided.frozen, decided.expires_at
  from decided
  where decided.taken = 'unknown'
  on conflict do nothing
), recorded as (
  insert into outboxd.attempt (id, lease_id, outcome, asked_at, ended_at, fenced, message)
  select decided.id, decided.lease_id, 'lease_expired', decided.claimed_at, decided.now, true,
    'its lease ended without an outcome'
  from decided
), forgotten as (
  delete from outboxd.progress
  where progress.id = any (array(select decided.id from decided where decided.taken not in ('again', 'kept')))
), heard as (  -- but what somebody holds: that is left to word/apply
  delete from outboxd.word
  where word.ctid = any (array(
    select said.ctid from outboxd.word as said
    where said.id = any (array(select decided.id from decided where decided.taken not in ('again', 'kept'))) for update skip locked))
), counted as (
  insert into outboxd.tally as counted (queue, minute, sent, failed)
  select decided.queue, date_trunc('minute', decided.now),
    count(*) filter (where decided.taken = 'sent'), count(*) filter (where decided.taken = 'unknown')
  from decided
  where decided.taken in ('sent', 'unknown')
  group by decided.queue, date_trunc('minute', decided.now)
  order by decided.queue
  on conflict (queue, minute) do update
  set sent = counted.sent + excluded.sent, failed = counted.failed + excluded.failed
)
select decided.id, decided.uid, decided.streak, decided.taken from decided
