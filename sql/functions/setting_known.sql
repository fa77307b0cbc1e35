-- Refuse settings that are no object or have a key that is not known here.
create or replace function outboxd.setting_known(settings jsonb, known text[]) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  stranger text;
begin
  if jsonb_typeof(settings) is distinct from 'object' then
    raise exception 'settings: must be an object' using errcode = '22023',
      hint = 'Write {"' || known[1] || '": …}. Queues cannot be removed.';
  end if;
  select key into stranger from jsonb_object_keys(settings) as key where key <> all (known) order by key limit 1;
  if found then
    raise exception '%: is not a known setting', left(stranger, 60)
      using errcode = '22023', hint = 'Known are ' || array_to_string(known, ', ') || '.';
  end if;
end
$$;
