-- The duration under `key`, a text such as '90 s'; null where it is absent or null. Refuses what is none or out of
-- bounds, and months, whose length is not fixed.
create or replace function outboxd.setting_interval(settings jsonb, key text, low interval, high interval)
returns interval
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  given jsonb := nullif(settings -> key, 'null');
  found_one interval;
begin
  if given is null then
    return null;
  end if;
  begin
    if jsonb_typeof(given) = 'string' and settings ->> key !~ '^[\s\d.+-]*$' then
      found_one := (settings ->> key)::interval;
    end if;
  exception when data_exception then
    found_one := null;
  end;
  if found_one is null or extract(year from found_one) <> 0 or extract(month from found_one) <> 0
    or found_one not between low and high
  then
    raise exception '%: must be a duration like "90 s", "5 min" or "6 h", between % and %', key,
      outboxd.duration_text(low), outboxd.duration_text(high) using errcode = '22023';
  end if;
  return found_one;
end
$$;
