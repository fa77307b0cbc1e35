-- Open the lanes that limits of these keys closed, where each of the keys has room by now; shares of them were given back.
-- Lanes are locked in the order of kind and key, after the counts. Wakes the daemons. A lane that is full all the same (a
-- share is kept free, an email needs more than is left) closes again at the first refusal. Pauses are no matter here.
create or replace function outboxd.open_lanes(kinds text[], keys text[]) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  opened integer;
begin
  with closed as materialized (
    select lane.id, mine.kind, mine.key
    from (
      select given.kind, given.key, case
          when given.kind in ('provider_minute', 'provider_day') then 'provider'
          when given.kind in ('account_day', 'account_month') then 'quota'
          else given.kind end as lane_kind
      from unnest(kinds, keys) as given (kind, key)) as mine
    left join outboxd.queue on mine.lane_kind = 'quota'
    join outboxd.lane on lane.kind = mine.lane_kind and lane.key = mine.key || coalesce('/' || queue.name, '')
    where lane.closed_until > clock_timestamp()
  ), roomy as materialized (
    select closed.id
    from closed
    group by closed.id
    having bool_and(coalesce((
      select usage.used < usage.most
      from outboxd.limit_usage as usage
      where usage.kind = closed.kind and usage.key = closed.key), true))
  ), locked as materialized (
    select lane.id
    from outboxd.lane
    where lane.id = any (array(select roomy.id from roomy))
    order by lane.kind, lane.key
    for update
  ), reopened as (
    update outboxd.lane
    set closed_until = clock_timestamp()
    where lane.id = any (array(select locked.id from locked)) and lane.closed_until > clock_timestamp()
    returning 1
  )
  select count(*) into opened from reopened;
  if opened > 0 then
    perform pg_notify('outboxd', '');
  end if;
end
$$;
