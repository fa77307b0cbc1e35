-- Insert many emails in the caller's transaction: an array of objects whose keys are enqueue's parameters.
-- Returns the ids in the order given; an ignored duplicate's place has the id of the email that holds the key.
-- Errors name the item: "items[3]: …". Keys go in order, so bulk calls cannot deadlock.
create or replace function outboxd.enqueue_many(items jsonb) returns bigint[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  known constant text[] := array['payload', 'type', 'queue', 'dedupe_key', 'on_duplicate', 'scheduled_at',
    'expires_at', 'priority', 'max_attempts', 'guard', 'after', 'campaign', 'tenant', 'trace'];
  item record;
  stranger text;
  ids bigint[];
  place bigint;
  made_id bigint;
  problem text;
  code text;
  advice text;
begin
  if jsonb_typeof(items) is distinct from 'array' then
    raise exception 'items: must be an array of objects' using errcode = '22023';
  end if;
  ids := array_fill(null::bigint, array[jsonb_array_length(items)]);
  for item in
    select entry.ordinality as n, entry.value
    from jsonb_array_elements(items) with ordinality as entry
    order by coalesce(entry.value ->> 'tenant', ''), entry.value ->> 'dedupe_key', entry.ordinality
  loop
    place := item.n - 1;
    if jsonb_typeof(item.value) <> 'object' then
      raise exception 'items[%]: must be an object', place using errcode = '22023';
    end if;
    select key into stranger from jsonb_object_keys(item.value) as key where key <> all (known) limit 1;
    if found then
      raise exception 'items[%]: has an unknown key', place
        using errcode = '22023', hint = 'Known are ' || array_to_string(known, ', ') || '.';
    end if;
    select made.id into made_id
    from jsonb_to_record(item.value) as given (
      payload jsonb, type text, queue text, dedupe_key text, on_duplicate text, scheduled_at timestamptz,
      expires_at timestamptz, priority smallint, max_attempts smallint, guard text, after jsonb, campaign text,
      tenant text, trace jsonb)
    cross join lateral outboxd.enqueue(
      given.payload, given.type, given.queue, given.dedupe_key, coalesce(given.on_duplicate, 'ignore'),
      given.scheduled_at, given.expires_at, given.priority, given.max_attempts, given.guard, given.after,
      given.campaign, given.tenant, given.trace) as made;
    ids[item.n] := made_id;
  end loop;
  return ids;
exception when data_exception or integrity_constraint_violation or feature_not_supported then
  get stacked diagnostics problem = message_text, code = returned_sqlstate, advice = pg_exception_hint;
  raise exception '%', case when place is null or problem ^@ 'items' then problem
      else format('items[%s]: %s', place, problem) end
    using errcode = code, hint = advice;
end
$$;
