-- End one lot of waiting emails: sent where an acceptance is recorded, cancelled where that is certain, else `unknown`
-- among the dead letters. With `only_held` those that are held back; else all up to `last_id`. A word that somebody holds
-- is left to word/apply.
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
    coalesce(progress.ambiguous, false) as ambiguous,
    (select max(word.provider_id) from outboxd.word where word.id = gone.id) as accepted_as
  from gone
  left join outboxd.progress on progress.id = gone.id
), ended as (
  insert into outboxd.delivery (id, state, queue, attempts, provider_id, reason)
  select known.id, case when known.accepted_as is null then 'cancelled' else 'sent' end, known.queue,
    coalesce(known.attempts, 0), known.accepted_as,
    case when known.accepted_as is null then 'discarded by outboxd adopt' end
  from known
  where known.accepted_as is not null or not known.ambiguous
  on conflict do nothing
), buried as (
  insert into outboxd.dead_letter (id, uid, certainty, queue, type, tenant, payload, created_at, error_class, message,
    signature, attempts, generation, first_asked_at, frozen, expires_at)
  select known.id, email.uid, 'maybe_accepted', email.queue, email.type, email.tenant, email.payload,
    email.created_at, 'discarded', 'discarded by outboxd adopt', 'discarded', known.attempts, known.generation,
    known.first_asked_at, known.frozen, email.expires_at
  from known
  join outboxd.email on email.id = known.id
  where known.accepted_as is null and known.ambiguous
  on conflict do nothing
), forgotten as (
  delete from outboxd.progress where progress.id = any (array(select known.id from known))
), heard as (
  delete from outboxd.word
  where word.ctid = any (array(
    select said.ctid from outboxd.word as said
    where said.id = any (array(select known.id from known)) for update skip locked))
)
select count(*) from known
