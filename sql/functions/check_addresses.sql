-- The bare addresses, in lower case, of one address field: a string, or an array of 1 to 50. Raises 22023 with the
-- field and position; never prints the address, because errors land in logs.
create or replace function outboxd.check_addresses(field text, given jsonb, single boolean default false)
returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  entries jsonb := given;
  entry text;
  address text;
  name text;
  place text;
  problem text;
  found text[] := '{}';
begin
  if jsonb_typeof(given) = 'string' then
    entries := jsonb_build_array(given);
  elsif jsonb_typeof(given) <> 'array' or single then
    raise exception '%: must be %', field, case when single then 'one address, a string' else
      'an address or an array of them' end using errcode = '22023';
  elsif jsonb_array_length(given) not between 1 and 50 then
    raise exception '%: must have 1 to 50 addresses', field using errcode = '22023';
  end if;
  for n in 0 .. jsonb_array_length(entries) - 1 loop
    place := case when jsonb_typeof(given) = 'array' then format('%s[%s]', field, n) else field end;
    entry := entries ->> n;
    if jsonb_typeof(entries -> n) <> 'string' then
      raise exception '%: must be a string', place using errcode = '22023';
    end if;
    address := case when right(entry, 1) = '>' then substring(entry from '<([^<>]*)>$') else entry end;
    name := case when right(entry, 1) = '>' then btrim(left(entry, -length(coalesce(address, '')) - 2)) else '' end;
    problem := case
      when entry ~ '[\x01-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]'
        then 'has control, zero-width or direction characters'
      when address is null or address !~ '^[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+)*@'
        then 'must look like ada@example.org or Ada <ada@example.org>'
      when length(split_part(address, '@', 1)) > 64 or length(address) > 254
        then 'is longer than an address can be'
      when substring(address from '@(.*)$') !~
        '^([[:alnum:]]([[:alnum:]-]{0,61}[[:alnum:]])?\.)+[[:alnum:]]([[:alnum:]-]{0,61}[[:alnum:]])?$'
        or address ~ '\.[0-9]+$'
        then 'has no valid domain behind the @'
      when length(name) > 300 or not (name ~ '^[^,;:<>@"\\]*$' or name ~ '^"[^"\\]*"$')
        then 'has a name with characters that need quotes'
    end;
    if problem is not null then
      raise exception '%: %', place, problem using errcode = '22023',
        hint = 'An address is local@domain, or a name followed by <local@domain>; quote a name that has , ; : < > or @.';
    end if;
    found := found || lower(address);
  end loop;
  return found;
end
$$;
