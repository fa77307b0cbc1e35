-- End one lot of waiting batches, member by member: sent where an acceptance is recorded, cancelled where that is
-- certain, else `unknown` among the dead letters. With `only_held` those that are held back. A word that somebody holds
-- is left to word/apply.
with gone as materialized (
  delete from outboxd.batch
  where batch.batch_uid = any (array(
    select waiting.batch_uid
    from outboxd.batch as waiting
    where waiting.due_at is not null and (not %(only_held)s::boolean or waiting.due_at >= %(until)s::timestamptz)
    limit 100
    for update skip locked))
  returning batch.batch_uid, batch.queue, batch.attempts, batch.first_asked_at, batch.frozen, batch.ambiguous
), member as materialized (
  delete from outboxd.batch_member
  using gone
  where batch_member.batch_uid = gone.batch_uid
  returning batch_member.id, gone.queue, gone.attempts, gone.first_asked_at, gone.frozen, gone.ambiguous,
    (select max(word.provider_id) from outboxd.word where word.id = batch_member.id) as accepted_as
), ended as (
  insert into outboxd.delivery (id, state, queue, attempts, provider_id, reason)
  select member.id, case when member.accepted_as is null then 'cancelled' else 'sent' end, member.queue,
    member.attempts, member.accepted_as,
    case when member.accepted_as is null then 'discarded by outboxd adopt' end
  from member
  where member.accepted_as is not null or not member.ambiguous
  on conflict do nothing
), buried as (
  insert into outboxd.dead_letter (id, uid, certainty, queue, type, tenant, payload, created_at, error_class, message,
    signature, attempts, first_asked_at, frozen, expires_at)
  select member.id, email.uid, 'maybe_accepted', email.queue, email.type, email.tenant, email.payload,
    email.created_at, 'discarded', 'discarded by outboxd adopt', 'discarded', member.attempts,
    member.first_asked_at, member.frozen, email.expires_at
  from member
  join outboxd.email on email.id = member.id
  where member.accepted_as is null and member.ambiguous
  on conflict do nothing
), heard as (
  delete from outboxd.word
  where word.ctid = any (array(
    select said.ctid from outboxd.word as said
    where said.id = any (array(select member.id from member)) for update skip locked))
)
select count(*) from member
