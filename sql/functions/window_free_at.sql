-- The instant of the grant that must leave the window before `excess` shares of a key are free; null where the emails
-- of the same statement fill it. Called only for what is refused.
create or replace function outboxd.window_free_at(kind text, key text, counts_from timestamptz, excess integer)
returns timestamptz
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select entry.at
    from (
      select slot.at, sum(slot.n) over (order by slot.at) as freed
      from outboxd.window_count as known
      cross join lateral unnest(known.at, known.n) as slot (at, n)
      where known.kind = window_free_at.kind and known.key = window_free_at.key and slot.at >= counts_from) as entry
    where entry.freed >= excess
    order by entry.at
    limit 1);
end
$$;
