-- Move due batches into a new lease, whole: members in the order of their bytes. `least` and `most` bound the crash
-- streak. What is paused is left alone, and everything while the account's breaker is open, but for what is probed (in one
-- lane, where one is given; an account's probe passes the breaker too). A batch without an open answer is asked at this
-- daemon's account from now on, and the quota of where it is asked closes its lane. No row: none was due.
with instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
), due as materialized (
  select batch.batch_uid
  from outboxd.batch
  where batch.due_at <= (select instant.now from instant)
    and coalesce((select case when lane.kind = 'quota' then outboxd.quota_closed_until(case when batch.ambiguous
        then batch.frozen else %(frozen)s::jsonb end ->> 'account', queue.name) else lane.closed_until end
      from outboxd.lane, outboxd.queue
      where lane.id = batch.lane and queue.id = batch.queue) <= (select instant.now from instant), true)
    and batch.crash_streak between %(least)s::smallint and %(most)s::smallint
    and (%(only_lane)s::integer is null or batch.lane = %(only_lane)s::integer)
    and not exists (
      select
      from outboxd.pause
      where (pause.until is null or pause.until > (select instant.now from instant))
        and (pause.kind, pause.key) is distinct from (%(probed_kind)s::text, %(probed_key)s::text)
        and ((pause.kind = 'account' and pause.key = %(frozen)s::jsonb ->> 'account')
          or (pause.kind = 'queue' and pause.key = (select queue.name from outboxd.queue where queue.id = batch.queue))
          or (pause.kind, pause.key) = (select lane.kind, lane.key from outboxd.lane where lane.id = batch.lane))
      union all
      select
      from outboxd.breaker
      where breaker.account = %(frozen)s::jsonb ->> 'account' and breaker.state <> 'closed'
        and coalesce(%(probed_kind)s::text, '') not in ('account', 'breaker'))
  order by batch.due_at
  limit %(limit)s::integer
  for update skip locked
), taken as (
  update outboxd.batch
  set due_at = null,
    frozen = case
      when batch.ambiguous then batch.frozen
      else batch.frozen || jsonb_build_object(
        'account', %(frozen)s::jsonb -> 'account', 'api_url', %(frozen)s::jsonb -> 'api_url') end
  where batch.batch_uid = any (array(select due.batch_uid from due))
  returning batch.*
), leased as (
  insert into outboxd.lease (lease_id, worker, ids, frozen, claimed_at, lease_until)
  select %(lease_id)s::uuid, %(worker)s::uuid, array_agg(batch_member.id), %(frozen)s::jsonb,
    instant.now, instant.now + %(ttl)s::interval
  from taken
  join outboxd.batch_member on batch_member.batch_uid = taken.batch_uid
  cross join instant
  group by instant.now
  returning lease.claimed_at
)
select
  taken.batch_uid, case batch_member.place when 0 then taken.body end as body, taken.frozen, taken.attempts,
  taken.crash_streak, taken.first_asked_at, taken.first_failed_at, taken.last_ambiguous_at, taken.ambiguous,
  taken.transient, taken.rejected,
  batch_member.id, taken.queue, taken.lane, coalesce(email.priority, 100::smallint) as priority, email.scheduled_at,
  email.uid, email.type, email.queue as queue_name, email.payload::text as payload, email.expires_at,
  progress.first_asked_at as alone_first_asked_at, coalesce(progress.generation, 1::smallint) as generation,
  taken.frozen || coalesce(progress.frozen, '{}') || jsonb_build_object(
    'account', taken.frozen -> 'account', 'api_url', taken.frozen -> 'api_url') as member_frozen,
  email.max_attempts, email.trace::text as trace, email.payload ->> 'from' as sender,
  said.cancelled, said.accepted_as, email.tenant, email.campaign, email.recipients,
  (select jsonb_agg(array[refused.address, refused.reason, refused.scope])
   from outboxd.unwanted(email.recipients, email.queue, email.type, leased.claimed_at) as refused) as suppressed,
  leased.claimed_at
from taken
cross join leased
join outboxd.batch_member on batch_member.batch_uid = taken.batch_uid
left join outboxd.email on email.id = batch_member.id
left join outboxd.progress on progress.id = batch_member.id
left join lateral (
  select bool_or(word.kind = 'cancel') as cancelled, max(word.provider_id) as accepted_as
  from outboxd.word
  where word.id = batch_member.id) as said on true
order by taken.batch_uid, batch_member.place
