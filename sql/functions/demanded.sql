-- The shares that the emails which `passed` take of each key: all units, by the place of the key.
create or replace function outboxd.demanded(
  kinds text[], passed boolean[], share_of integer[], share_key integer[], share_units integer[])
returns integer[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  units integer[] := array_fill(0, array[cardinality(kinds)]);
begin
  for pair in 1 .. cardinality(share_of) loop
    if passed[share_of[pair]] then
      units[share_key[pair]] := units[share_key[pair]] + share_units[pair];
    end if;
  end loop;
  return units;
end
$$;
