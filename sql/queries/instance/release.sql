-- Let one lot of held emails go; those that were in hand at a crash wait in the lanes of suspects again. How many.
with released as (
  update outboxd.ready
  set lane = coalesce((
    select -least(progress.crash_streak, 2) from outboxd.progress where progress.id = ready.id), 0)
  where ready.ctid = any (array(
    select held.ctid
    from outboxd.ready as held
    where held.lane = %(held)s::integer
    limit %(most)s::integer
    for update skip locked))
  returning ready.id
)
select count(*) from released
