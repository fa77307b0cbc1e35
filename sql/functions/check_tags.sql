-- tags: at most 74, since the tag that carries the email's uid is the 75th.
create or replace function outboxd.check_tags(tags jsonb) returns void
language plpgsql immutable
as $$
declare
  shape constant text := '^[A-Za-z0-9_-]+$';
  item jsonb;
  field text;
  key text;
  seen text[] := '{}';
begin
  if jsonb_typeof(tags) <> 'array' or jsonb_array_length(tags) > 74 then
    perform outboxd.refuse_payload(
      'payload.tags', 'must be an array of at most 74 objects', 'Write [{"name": …, "value": …}].');
  end if;
  for place in 0 .. jsonb_array_length(tags) - 1 loop
    item := tags -> place;
    field := format('payload.tags[%s]', place);
    if jsonb_typeof(item) <> 'object' then
      perform outboxd.refuse_payload(
        field, 'must be an object, not ' || jsonb_typeof(item), 'Write {"name": …, "value": …}.');
    elsif item - array['name', 'value'] <> '{}' then
      perform outboxd.refuse_unknown(item - array['name', 'value'], array['name', 'value'], field);
    end if;
    foreach key in array array['name', 'value'] loop
      if jsonb_typeof(item -> key) is distinct from 'string' or item ->> key !~ shape
        or length(item ->> key) > 256
      then
        perform outboxd.refuse_payload(
          format('%s.%s', field, key), 'must be a string of 1 to 256 ASCII letters, digits, _ and -',
          'Providers take no other characters in tags.');
      end if;
    end loop;
    if item ->> 'name' = 'outboxd_uid' then
      perform outboxd.refuse_payload(field || '.name', 'is reserved', 'outboxd sets this tag itself.');
    elsif item ->> 'name' = any (seen) then
      perform outboxd.refuse_payload(field || '.name', 'is given twice', 'Keep one tag of each name.');
    end if;
    seen := seen || (item ->> 'name');
  end loop;
end
$$;
