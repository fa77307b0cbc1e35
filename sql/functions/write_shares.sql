-- Write what grant_limits decided about windows, into rows that it locked. Shares are summed up in sub-slots of a 40th
-- of the window, each under its last instant: no true sliding window is ever exceeded, and what was granted in a
-- burst comes back in one. What left the window is dropped. Instants never go back, whatever the clock does.
create or replace function outboxd.write_shares(
  passed boolean[], kinds text[], keys text[], key_most integer[], key_per interval[],
  share_of integer[], share_key integer[], share_units integer[], longer interval, instant timestamptz)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update outboxd.window_count as known
  set (at, n) = (
      select known.at[gone.upto + 1 : gone.kept] || greatest(instant, known.at[cardinality(known.at)]),
        known.n[gone.upto + 1 : gone.kept] || taken.n
          + case when gone.kept < cardinality(known.at) then known.n[cardinality(known.n)] else 0 end
      from (
        select width_bucket(instant - taken.per - longer, known.at) as upto,
          cardinality(known.at) - case
            when known.at[cardinality(known.at)] > instant - taken.per - longer
              and floor(extract(epoch from known.at[cardinality(known.at)])::float8 / taken.slot)
                >= floor(extract(epoch from instant)::float8 / taken.slot)
            then 1 else 0 end as kept) as gone),
    most = taken.most, per = taken.per,
    stale_at = greatest(known.stale_at, date_bin('10 min', instant + taken.per + '20 min', 'epoch'))
  from (
    select kinds[share.key] as kind, keys[share.key] as key, key_most[share.key] as most, key_per[share.key] as per,
      extract(epoch from key_per[share.key])::float8 / 40 as slot, share.n
    from (
      select share_key[pair] as key, sum(share_units[pair])::integer as n
      from generate_subscripts(share_of, 1) as pair
      where passed[share_of[pair]]
      group by share_key[pair]) as share
    where key_most[share.key] is not null) as taken
  where known.kind = taken.kind and known.key = taken.key;
end
$$;
