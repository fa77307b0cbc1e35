-- End one lot of waiting batches, member by member: cancelled where that is certain, else `unknown` among the dead
-- letters. With `only_held` those that are held back.
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
  returning batch_member.id, gone.queue, gone.attempts, gone.first_asked_at, gone.frozen, gone.ambiguous
), ended as (
  insert into outboxd.delivery (id, state, queue, attempts, reason)
  select member.id, 'cancelled', member.queue, member.attempts, 'discarded by outboxd adopt'
  from member
  where not member.ambiguous
  on conflict do nothing
), buried as (
  insert into outboxd.dead_letter (id, uid, certainty, queue, type, tenant, payload, created_at, error_class, message,
    signature, attempts, first_asked_at, frozen, expires_at)
  select member.id, email.uid, 'maybe_accepted', email.queue, email.type, email.tenant, email.payload,
    email.created_at, 'discarded', 'discarded by outboxd adopt', 'discarded', member.attempts,
    member.first_asked_at, member.frozen, email.expires_at
  from member
  join outboxd.email on email.id = member.id
  where member.ambiguous
  on conflict do nothing
), heard as (
  delete from outboxd.word where word.id = any (array(select member.id from member))
)
select count(*) from member
