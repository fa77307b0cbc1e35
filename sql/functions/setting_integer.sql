-- The whole number under `key`; null where it is absent or null. Refuses what is none or out of bounds.
create or replace function outboxd.setting_integer(settings jsonb, key text, low integer, high integer)
returns integer
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  given jsonb := nullif(settings -> key, 'null');
begin
  if jsonb_typeof(given) <> 'number' or given::numeric <> trunc(given::numeric)
    or given::numeric not between low and high
  then
    raise exception '%: must be a whole number between % and %', key, low, high using errcode = '22023';
  end if;
  return given::integer;
end
$$;
