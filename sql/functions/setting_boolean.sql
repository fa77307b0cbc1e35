-- The true or false under `key`; null where it is absent or null. Refuses anything else.
create or replace function outboxd.setting_boolean(settings jsonb, key text) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  given jsonb := nullif(settings -> key, 'null');
begin
  if jsonb_typeof(given) <> 'boolean' then
    raise exception '%: must be true or false', key using errcode = '22023';
  end if;
  return given::boolean;
end
$$;
