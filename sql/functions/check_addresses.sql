-- One address or an array of 1 to 50; returns the bare addresses in their order.
create or replace function outboxd.check_addresses(entries jsonb, field text) returns text[]
language plpgsql immutable
as $$
declare
  kind text := jsonb_typeof(entries);
  addresses text[] := '{}';
begin
  if kind = 'string' then
    return array[outboxd.check_address(entries, field)];
  elsif kind is null then
    perform outboxd.refuse_payload(field, 'is missing', 'Write one address or an array of addresses.');
  elsif kind <> 'array' then
    perform outboxd.refuse_payload(
      field, 'must be a string or an array of strings, not ' || kind, 'Write one address or an array of addresses.');
  elsif jsonb_array_length(entries) not between 1 and 50 then
    perform outboxd.refuse_payload(
      field, 'must have 1 to 50 addresses', 'Insert one email for each recipient; leave an empty list out.');
  end if;
  for place in 0 .. jsonb_array_length(entries) - 1 loop
    addresses := addresses || outboxd.check_address(entries -> place, format('%s[%s]', field, place));
  end loop;
  return addresses;
end
$$;
