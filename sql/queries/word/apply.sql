-- Apply words that crossed with a settle: an accepted email that lies among the dead letters becomes sent; words whose
-- email has ended are removed, so that a cancel that came too late does not meet a later replay. Bounded; returns the ids that became sent.
with late as materialized (
  select word.id, word.provider_id from outboxd.word where word.kind = 'accepted' order by word.at limit %(limit)s::integer
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
  where word.id = any (array(
    select stale.id
    from (select word.id from outboxd.word order by word.at limit %(limit)s::integer) as stale
    where exists (select from outboxd.delivery where delivery.id = stale.id)
      or stale.id in (select risen.id from risen)))
  or (word.kind = 'cancel' and word.id = any (array(
    select buried.id
    from (select word.id from outboxd.word order by word.at limit %(limit)s::integer) as stale
    join outboxd.dead_letter as buried on buried.id = stale.id)))
)
select risen.id from risen
