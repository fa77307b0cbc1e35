-- The number under `key`, a share; null where it is absent or null. Refuses what is none or out of bounds.
create or replace function outboxd.setting_share(settings jsonb, key text, low numeric, high numeric) returns numeric
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  given jsonb := nullif(settings -> key, 'null');
begin
  if jsonb_typeof(given) <> 'number' or given::numeric not between low and high then
    raise exception '%: must be a number between % and %', key, low, high using errcode = '22023';
  end if;
  return given::numeric;
end
$$;
