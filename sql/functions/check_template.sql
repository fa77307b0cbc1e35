-- Resend's own template: an id and flat variables.
create or replace function outboxd.check_template(given jsonb) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  item record;
begin
  if jsonb_typeof(given) <> 'object' or given - array['id', 'variables'] <> '{}'
    or coalesce(jsonb_typeof(given -> 'id'), '') <> 'string' or length(given ->> 'id') not between 1 and 256
    or coalesce(jsonb_typeof(given -> 'variables'), 'object') <> 'object'
  then
    raise exception 'template: must be {"id": string, "variables": object}' using errcode = '22023';
  end if;
  for item in select key, value from jsonb_each(coalesce(given -> 'variables', '{}')) loop
    if item.key !~ '^[A-Za-z0-9_]{1,50}$'
      or upper(item.key) in ('FIRST_NAME', 'LAST_NAME', 'EMAIL', 'UNSUBSCRIBE_URL')
    then
      raise exception 'template.variables: a name is reserved, or not 1 to 50 of A-Z a-z 0-9 _' using errcode = '22023';
    elsif not (jsonb_typeof(item.value) = 'string' and length(item.value #>> '{}') <= 2000)
      and not (jsonb_typeof(item.value) = 'number' and length(item.value #>> '{}') <= 25
        and abs((item.value #>> '{}')::numeric) <= 9007199254740991)
    then
      raise exception 'template.variables.%: must be a string of at most 2000 characters, or a number up to 2^53 - 1',
        item.key using errcode = '22023';
    end if;
  end loop;
end
$$;
