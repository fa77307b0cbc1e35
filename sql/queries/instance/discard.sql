-- End one lot of waiting emails: cancelled where that is certain, else `unknown` among the dead letters. With
-- `only_held` those that are held back; else all up to `last_id`.
with gone as materialized (
  delete from outboxd.ready
  where ready.ctid = any (array(
    select waiting.ctid
    from outboxd.ready as waiting
    where waiting.id <= %(last_id)s::bigint and (not %(only_held)s::boolean or waiting.lane = %(held)s::integer)
    limit %(most)s::integer
    for update skip locked))
  returning ready.id, ready.queue
), known as materialized (
  select gone.id, gone.queue, progress.attempts, progress.first_asked_at, progress.generation, progress.frozen,
    coalesce(progress.ambiguous, false) as ambiguous
  from gone
  left join outboxd.progress on progress.id = gone.id
), ended as (
  insert into outboxd.delivery (id, state, queue, attempts, reason)
  select known.id, 'cancelled', known.queue, coalesce(known.attempts, 0), 'discarded by outboxd adopt'
  from known
  where not known.ambiguous
  on conflict do nothing
), buried as (
  insert into outboxd.dead_letter (id, uid, certainty, queue, type, tenant, payload, created_at, error_class, message,
    signature, attempts, generation, first_asked_at, frozen, expires_at)
  select known.id, email.uid, 'maybe_accepted', email.queue, email.type, email.tenant, email.payload,
    email.created_at, 'discarded', 'discarded by outboxd adopt', 'discarded', known.attempts, known.generation,
    known.first_asked_at, known.frozen, email.expires_at
  from known
  join outboxd.email on email.id = known.id
  where known.ambiguous
  on conflict do nothing
), forgotten as (
  delete from outboxd.progress where progress.id = any (array(select known.id from known))
), heard as (
  delete from outboxd.word where word.id = any (array(select known.id from known))
)
select count(*) from known
