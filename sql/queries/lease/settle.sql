-- End many attempts at once, each only if its email is still a member of its lease. Run after lease/lock.
-- A batch is kept whole, or closed with an end for each member. Returns the email's id and the step that was taken;
-- an outcome without a row here belongs to a lost lease. Members are looked up in a hash, which `case` keeps the
-- planner from turning into a join: to search each lease for each email is a square. `first` and
-- `last` bound the ids, so that old partitions are not even opened.
with outcome as materialized (
  select *
  from unnest(
    %(lease_ids)s::uuid[], %(ids)s::bigint[], %(steps)s::text[], %(provider_ids)s::text[], %(due_in)s::float8[],
    %(attempts)s::smallint[], %(ambiguous)s::boolean[], %(transient)s::boolean[], %(asked_ago)s::float8[],
    %(queues)s::smallint[], %(lanes)s::integer[], %(priorities)s::smallint[], %(failures)s::jsonb[],
    %(batches)s::uuid[], %(leads)s::boolean[], %(rejected)s::boolean[], %(first_asked_at)s::timestamptz[],
    %(first_failed_at)s::timestamptz[], %(undecided)s::boolean[], %(places)s::timestamptz[]
  ) as given (lease_id, id, step, provider_id, due_in, attempts, ambiguous, transient, asked_ago,
    queue, lane, priority, failure, batch_uid, leads, rejected, first_asked_at, first_failed_at, undecided, place)
), instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
), held as materialized (
  select
    outcome.*, lease.frozen, instant.now,
    instant.now - make_interval(secs => outcome.asked_ago) as asked_at,
    said.accepted_as,
    case
      when outcome.step = 'kept' then
        case when bool_and(said.accepted_as is not null) over (partition by outcome.batch_uid) then 'sent' else 'kept' end
      when said.accepted_as is not null and outcome.step <> 'drop' then 'sent'
      when outcome.step = 'again' and said.cancelled then
        case when outcome.ambiguous then 'unknown' else 'cancelled' end
      else outcome.step
    end as taken
  from outcome
  join outboxd.lease on lease.lease_id = outcome.lease_id
  cross join instant
  left join lateral (
    select bool_or(word.kind = 'cancel') as cancelled, max(word.provider_id) as accepted_as
    from outboxd.word
    where word.id = outcome.id) as said on true
  where case when (outcome.lease_id, outcome.id) in (
    select member_of.lease_id, unnest(member_of.ids)
    from outboxd.lease as member_of
    where member_of.lease_id = any (%(leases)s::uuid[])) then true end
), removed as (
  select held.lease_id, array_agg(held.id) as ids from held group by held.lease_id
), shrunk as (
  update outboxd.lease
  set ids = array(select member from unnest(lease.ids) as member where member <> all (removed.ids))
  from removed
  where lease.lease_id = removed.lease_id and not lease.ids <@ removed.ids
), emptied as (
  delete from outboxd.lease
  using removed
  where lease.lease_id = removed.lease_id and lease.ids <@ removed.ids
), kept as (
  update outboxd.batch
  set due_at = held.now + make_interval(secs => held.due_in),
    lane = greatest(held.lane, 0),
    attempts = held.attempts,
    crash_streak = case when held.asked_ago is null then batch.crash_streak else 0 end,
    first_asked_at = case
      when not batch.ambiguous and batch.first_asked_at < held.asked_at - interval '23 h' then held.asked_at
      else coalesce(batch.first_asked_at, held.asked_at) end,
    first_failed_at = coalesce(batch.first_failed_at, case when held.attempts > 0 then held.asked_at end),
    last_ambiguous_at = case when held.undecided then held.now else batch.last_ambiguous_at end,
    ambiguous = batch.ambiguous or held.ambiguous,
    transient = batch.transient and held.transient,
    rejected = held.rejected,
    last_error = coalesce(held.failure ->> 'message', batch.last_error)
  from held
  where held.leads and held.taken = 'kept' and batch.batch_uid = held.batch_uid
), closed as (
  delete from outboxd.batch
  where batch.batch_uid = any (array(
    select held.batch_uid from held where held.leads and held.taken <> 'kept'))
), unbound as (
  delete from outboxd.batch_member
  where batch_member.id = any (array(
    select held.id from held where held.batch_uid is not null and held.taken <> 'kept'))
), ended as (
  insert into outboxd.delivery (id, state, queue, attempts, provider_id, reason, at)
  select held.id, held.taken, held.queue, held.attempts, coalesce(held.provider_id, held.accepted_as),
    held.failure ->> 'message', held.now
  from held
  where held.taken in ('sent', 'suppressed', 'cancelled', 'expired')
  on conflict do nothing
), back as (
  insert into outboxd.ready (id, queue, lane, priority, scheduled_at)
  select held.id, held.queue, case when held.asked_ago is null then held.lane else greatest(held.lane, 0) end,
    held.priority, coalesce(held.place, held.now + make_interval(secs => held.due_in))
  from held
  where held.taken = 'again'
  on conflict do nothing
), remembered as (
  insert into outboxd.progress as known
    (id, attempts, first_asked_at, first_failed_at, ambiguous, transient, frozen, last_error)
  select held.id, held.attempts, held.asked_at,
    coalesce(held.first_failed_at, case when held.attempts > 0 then held.asked_at end), held.ambiguous,
    held.transient, held.frozen,
    held.failure ->> 'message'
  from held
  where held.taken = 'again'
    and (held.asked_ago is not null or (held.batch_uid is not null and held.attempts > 0))
  on conflict (id) do update
  set attempts = excluded.attempts,
    crash_streak = 0,
    first_asked_at = case
      when not known.ambiguous and known.first_asked_at < excluded.first_asked_at - interval '23 h'
      then excluded.first_asked_at
      else coalesce(known.first_asked_at, excluded.first_asked_at) end,
    first_failed_at = coalesce(known.first_failed_at, excluded.first_failed_at),
    ambiguous = known.ambiguous or excluded.ambiguous,
    transient = known.transient and excluded.transient,
    frozen = case
      when known.ambiguous then coalesce(nullif(known.frozen, '{}'), excluded.frozen)
      else excluded.frozen || known.frozen || jsonb_build_object(
        'account', excluded.frozen -> 'account', 'api_url', excluded.frozen -> 'api_url') end,
    last_error = coalesce(excluded.last_error, known.last_error)
), recorded as (
  insert into outboxd.attempt (id, lease_id, outcome, asked_at, ended_at, fenced, http_status, error_name, message)
  select held.id, held.lease_id, held.failure ->> 'kind', held.asked_at, held.now, true,
    (held.failure ->> 'status')::smallint, held.failure ->> 'name', held.failure ->> 'message'
  from held
  where held.failure is not null and held.asked_ago is not null
), buried as (
  insert into outboxd.dead_letter (
    id, uid, certainty, queue, type, tenant, payload, created_at, died_at, error_class, error_name, error_code,
    http_status, message, excerpt, stack, signature, attempts, history, generation, first_asked_at, frozen, expires_at)
  select
    held.id, coalesce(email.uid, gen_random_uuid()),
    case held.taken when 'dead' then 'not_accepted' else 'maybe_accepted' end,
    queue.name, coalesce(email.type, ''), coalesce(email.tenant, ''), email.payload, email.created_at, held.now,
    case when held.step = 'again' then 'cancelled' else coalesce(held.failure ->> 'kind', held.taken) end,
    held.failure ->> 'name', held.failure ->> 'code', (held.failure ->> 'status')::smallint,
    coalesce(held.failure ->> 'message', ''), held.failure ->> 'excerpt', held.failure ->> 'stack',
    coalesce(held.failure ->> 'signature', ''), held.attempts,
    coalesce((
      select jsonb_agg(jsonb_build_object(
        'asked_at', attempt.asked_at, 'ended_at', attempt.ended_at, 'outcome', attempt.outcome,
        'http_status', attempt.http_status, 'name', attempt.error_name, 'message', attempt.message)
        order by attempt.attempt_id)
      from outboxd.attempt
      where attempt.id = held.id), '[]')
    || case when held.asked_ago is null then '[]' else jsonb_build_array(jsonb_build_object(
        'asked_at', held.asked_at, 'ended_at', held.now, 'outcome', held.failure -> 'kind',
        'http_status', held.failure -> 'status', 'name', held.failure -> 'name',
        'message', held.failure -> 'message')) end,
    coalesce(progress.generation, 1), coalesce(held.first_asked_at, progress.first_asked_at, held.asked_at),
    coalesce(batch.frozen, nullif(progress.frozen, '{}'), held.frozen), email.expires_at
  from held
  join outboxd.queue on queue.id = held.queue
  left join lateral (
    select email.uid, email.type, email.tenant, email.payload, email.created_at, email.expires_at
    from outboxd.email
    where email.id = held.id and email.id between %(first)s::bigint and %(last)s::bigint
    offset 0) as email on true
  left join outboxd.progress on progress.id = held.id
  left join outboxd.batch on batch.batch_uid = held.batch_uid
  where held.taken in ('dead', 'unknown')
  on conflict do nothing
), forgotten as (
  delete from outboxd.progress
  where progress.id = any (array(select held.id from held where held.taken not in ('again', 'kept')))
), heard as (  -- but what somebody holds, who cancels once more: that is left to word/apply
  delete from outboxd.word
  where word.ctid = any (array(
    select said.ctid from outboxd.word as said
    where said.id = any (array(select held.id from held where held.taken not in ('again', 'kept'))) for update skip locked))
), counted as (
  insert into outboxd.tally as counted (queue, minute, sent, failed)
  select held.queue, date_trunc('minute', held.now),
    count(*) filter (where held.taken = 'sent'), count(*) filter (where held.taken in ('dead', 'unknown'))
  from held
  where held.taken in ('sent', 'dead', 'unknown')
  group by held.queue, date_trunc('minute', held.now)
  order by held.queue
  on conflict (queue, minute) do update
  set sent = counted.sent + excluded.sent, failed = counted.failed + excluded.failed
), timed as (
  insert into outboxd.latency_bucket as timed (minute, queue, bucket, emails)
  select date_trunc('minute', held.now), held.queue, ceil(ln(greatest(1, 1000 * extract(
    epoch from held.now - greatest(email.scheduled_at, email.created_at))::float8)) / ln(1.2::float8)), count(*)
  from held
  join lateral (
    select email.scheduled_at, email.created_at
    from outboxd.email
    where email.id = held.id and email.id between %(first)s::bigint and %(last)s::bigint
    offset 0) as email on true
  where held.taken = 'sent'
  group by 1, 2, 3
  order by 1, 2, 3
  on conflict (minute, queue, bucket) do update set emails = timed.emails + excluded.emails
)
select held.lease_id, held.id, held.taken from held
