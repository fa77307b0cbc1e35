-- Subtract shares of windows, granted at `granted_before`, from the sub-slots that hold them: for emails, by place, that
-- `chosen` names. The caller has locked the rows. A sub-slot that left its row is not looked for: limits err low.
create or replace function outboxd.free_shares(
  kinds text[], keys text[], share_of integer[], share_key integer[], share_units integer[],
  granted_before timestamptz[], chosen boolean[])
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update outboxd.window_count as known
  set n = array(
    select greatest(0, slot.n - coalesce((
      select sum(gone.n)
      from unnest(freed.at, freed.n) as gone (at, n)
      where gone.at <= slot.at and gone.at > coalesce(known.at[slot.place - 1], '-infinity')
        and gone.at >= date_bin(known.per / 40, slot.at, 'epoch')), 0))::integer
    from unnest(known.at, known.n) with ordinality as slot (at, n, place)
    order by slot.place)
  from (
    select kinds[share_key[pair]] as kind, keys[share_key[pair]] as key,
      array_agg(granted_before[share_of[pair]]) as at, array_agg(share_units[pair]) as n
    from generate_subscripts(share_of, 1) as pair
    where chosen[share_of[pair]] and granted_before[share_of[pair]] is not null
    group by share_key[pair]) as freed
  where known.kind = freed.kind and known.key = freed.key;
end
$$;
