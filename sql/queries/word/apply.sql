-- Apply words that crossed with a settle: an accepted email that lies among the dead letters becomes sent; words whose
-- email has ended are removed, so that a cancel that came too late does not meet a later replay. What cannot be applied
-- yet, or somebody holds, keeps none of the others back. Ends are looked up one by one: an `exists` would read those
-- tables whole. Bounded; returns the ids that became sent.
with late as materialized (
  select word.id, word.provider_id
  from outboxd.word
  where word.kind = 'accepted'
    and (select true from outboxd.dead_letter where dead_letter.id = word.id limit 1)
  order by word.at
  limit %(limit)s::integer
), risen as (
  delete from outboxd.dead_letter
  where dead_letter.id = any (array(select late.id from late))
  returning dead_letter.id, dead_letter.queue, dead_letter.attempts
), ended as (
  insert into outboxd.delivery (id, state, queue, attempts, provider_id)
  select risen.id, 'sent', queue.id, risen.attempts, late.provider_id
  from risen
  join late on late.id = risen.id
  join outboxd.queue on queue.name = risen.queue
  on conflict do nothing
), heard as (
  delete from outboxd.word
  where word.ctid = any (array(
    select stale.ctid
    from outboxd.word as stale
    where (select true from outboxd.delivery where delivery.id = stale.id limit 1)
      or stale.id = any (array(select risen.id from risen))
      or (stale.kind = 'cancel'
        and (select true from outboxd.dead_letter where dead_letter.id = stale.id limit 1))
    order by stale.at
    limit %(limit)s::integer
    for update of stale skip locked))
)
select risen.id from risen
