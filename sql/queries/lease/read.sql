-- What is needed to ask for the emails of a lease: the row, what earlier attempts left, words, suppressed recipients, and
-- whether there is an end already. `first` and `last` bound the ids, so that old partitions are not even opened: a row
-- outside of them is not found. `frozen` is null where it is the lease's. `offset` keeps the bounds from becoming a scan
-- of all between them. Ends are looked up one by one: an `exists` would read each of those tables whole.
select
  wanted.id,
  email.uid, email.type, email.queue as queue_name, email.payload::text as payload, email.expires_at,
  email.max_attempts, email.trace::text as trace, email.payload ->> 'from' as sender,
  email.payload ?| array['attachments', 'scheduled_at'] as alone,
  progress.attempts, progress.crash_streak, progress.first_asked_at, progress.first_failed_at,
  progress.ambiguous, progress.transient, progress.generation,
  case
    when progress.ambiguous then nullif(progress.frozen, '{}')
    else lease.frozen || nullif(progress.frozen, '{}')
      || jsonb_build_object('account', lease.frozen -> 'account', 'api_url', lease.frozen -> 'api_url')
  end as frozen,
  said.cancelled, said.accepted_as, email.recipients, email.tenant, email.campaign,
  (select jsonb_agg(array[refused.address, refused.reason, refused.scope])
   from outboxd.unwanted(email.recipients, email.queue, email.type, lease.claimed_at) as refused) as suppressed,
  coalesce(
    (select true from outboxd.delivery
     where delivery.id = wanted.id and delivery.id between %(first)s::bigint and %(last)s::bigint limit 1),
    (select true from outboxd.dead_letter where dead_letter.id = wanted.id limit 1),
    (select true from outboxd.batch_member where batch_member.id = wanted.id limit 1), false) as ended
from outboxd.lease
cross join lateral unnest(lease.ids) as wanted (id)
left join lateral (
  select *
  from outboxd.email
  where email.id = wanted.id and email.id between %(first)s::bigint and %(last)s::bigint
  offset 0) as email on true
left join outboxd.progress on progress.id = wanted.id
left join lateral (
  select bool_or(word.kind = 'cancel') as cancelled, max(word.provider_id) as accepted_as
  from outboxd.word
  where word.id = wanted.id) as said on true
where lease.lease_id = %(lease_id)s::uuid
