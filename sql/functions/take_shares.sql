-- Lock, compare and count windows in one pass, for the usual ask that finds room everywhere: `units` per key, where there
-- is room for its `demand`. `instant` was read before the locks were waited for, and they are to be had `within` so long of
-- it (null: for tests). True where every window had room, even for what counts no more, nobody wrote a later instant, and no
-- provider is slowed; else nothing was written or locked. Sub-slots as in write_shares.
create or replace function outboxd.take_shares(
  kinds text[], keys text[], key_most integer[], key_per interval[], key_day integer[], key_provider text[],
  key_demand integer[], units integer[], longer interval, instant timestamptz, within interval)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  counted integer;
  spared constant text[] := array(  -- kinds whose keys are to keep something free
    select given.kind from unnest(kinds, key_demand, units) as given (kind, demand, units) where given.demand > given.units);
begin
  if exists (select from outboxd.provider_override as slowed where slowed.provider = any (key_provider)) then
    return false;
  end if;
  insert into outboxd.window_count as known (kind, key, at, n, most, per, stale_at)
  select given.kind, given.key, array[instant], array[given.units], given.most, given.per,
    date_bin('10 min', instant + given.per + '20 min', 'epoch')
  from unnest(kinds, keys, key_most, key_per, key_day, key_demand, units)
    as given (kind, key, most, per, day, demand, units)
  where given.demand <= given.most and (given.day is null or outboxd.month_turning(instant, given.day, longer) is null)
  order by given.kind collate "C", given.key collate "C"
  on conflict (kind, key) do update
  set (at, n) = (
      select known.at[gone.upto + 1 : gone.kept] || instant,
        known.n[gone.upto + 1 : gone.kept] || excluded.n[1]
          + case when gone.kept < cardinality(known.at) then known.n[cardinality(known.n)] else 0 end
      from (
        select width_bucket(instant - excluded.per - longer, known.at) as upto,
          cardinality(known.at) - case
            when known.at[cardinality(known.at)] >= date_bin(excluded.per / 40, instant, timestamptz 'epoch') then 1
            else 0 end as kept) as gone),
    most = excluded.most, per = excluded.per, stale_at = greatest(known.stale_at, excluded.stale_at)
  where coalesce(known.at[cardinality(known.at)] <= instant, true)
    and coalesce((select sum(entry.n) from (select unnest(known.n) as n) as entry), 0) + case
      when excluded.kind <> all (spared) then excluded.n[1]
      else (
        select given.demand
        from unnest(kinds, keys, key_demand) as given (kind, key, demand)
        where given.kind = excluded.kind and given.key = excluded.key) end <= excluded.most;
  get diagnostics counted = row_count;
  if counted < (select count(*) from unnest(key_most) as given (most) where given.most is not null)
    or exists (select from outboxd.provider_override as slowed where slowed.provider = any (key_provider))
    or clock_timestamp() > instant + within
  then
    raise sqlstate 'OB001';
  end if;
  return true;
exception
  when sqlstate 'OB001' then
    return false;
end
$$;
