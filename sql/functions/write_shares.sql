-- Write what grant_limits decided about windows, into rows that it locked: `units` per key. Shares are summed up in
-- sub-slots of a 40th of the window, each under its last instant: no true sliding window is ever exceeded, and what was
-- granted in a burst comes back in one. What left the window is dropped. Instants never go back, whatever the clock does.
create or replace function outboxd.write_shares(
  kinds text[], keys text[], key_most integer[], key_per interval[], units integer[], longer interval,
  instant timestamptz)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update outboxd.window_count as known
  set (at, n) = (
      select known.at[gone.upto + 1 : gone.kept] || greatest(instant, known.at[cardinality(known.at)]),
        known.n[gone.upto + 1 : gone.kept] || taken.units
          + case when gone.kept < cardinality(known.at) then known.n[cardinality(known.n)] else 0 end
      from (
        select width_bucket(taken.counts_from, known.at) as upto,
          cardinality(known.at) - case when known.at[cardinality(known.at)] >= taken.slot then 1 else 0 end as kept) as gone),
    most = taken.most, per = taken.per, stale_at = greatest(known.stale_at, taken.stale_at)
  from (
    select given.kind, given.key, given.most, given.per, given.units, instant - given.per - longer as counts_from,
      date_bin(given.per / 40, instant, timestamptz 'epoch') as slot,
      date_bin('10 min', instant + given.per + '20 min', 'epoch') as stale_at
    from unnest(kinds, keys, key_most, key_per, units) as given (kind, key, most, per, units)
    where given.most is not null and given.units > 0) as taken
  where known.kind = taken.kind and known.key = taken.key;
end
$$;
