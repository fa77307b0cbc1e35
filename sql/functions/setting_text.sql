-- The text under `key`; null where it is absent or null. Refuses what is none, does not match (`pattern` ends with how
-- many characters it may have), or is none of `choices`.
create or replace function outboxd.setting_text(
  settings jsonb, key text, pattern text default '^[^[:cntrl:]]{1,100}$', choices text[] default null)
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  given jsonb := nullif(settings -> key, 'null');
begin
  if given is null then
    return null;
  elsif choices is not null and (jsonb_typeof(given) <> 'string' or settings ->> key <> all (choices)) then
    raise exception '%: must be one of %', key, array_to_string(choices, ', ') using errcode = '22023';
  elsif jsonb_typeof(given) <> 'string' or settings ->> key !~ pattern then
    raise exception '%: must be a text of % characters without control characters', key,
      replace(substring(pattern from '{([0-9,]+)}'), ',', ' to ') using errcode = '22023';
  end if;
  return settings ->> key;
end
$$;
