-- headers: an object of strings. Names that the provider or outboxd sets are refused in every spelling: a second
-- From, Bcc or Content-Type is how mail is smuggled.
create or replace function outboxd.check_headers(headers jsonb) returns void
language plpgsql immutable
as $$
declare
  header record;
  field text;
  seen text[] := '{}';
begin
  if jsonb_typeof(headers) <> 'object' then
    perform outboxd.refuse_payload(
      'payload.headers', 'must be an object of strings, not ' || jsonb_typeof(headers), 'Write {"Name": "value"}.');
  elsif (select count(*) from jsonb_object_keys(headers)) > 50 then
    perform outboxd.refuse_payload('payload.headers', 'has more than 50 headers', 'Leave some out.');
  end if;

  for header in select lower(entry.key collate "C") as name, entry.key, entry.value from jsonb_each(headers) as entry
  loop
    if header.key !~ '^[A-Za-z0-9!#$%&''*+.^_`|~-]{1,76}$' then
      perform outboxd.refuse_payload(
        'payload.headers', 'has a name that is not a header name',
        'A name has 1 to 76 ASCII letters, digits and hyphens; no space, colon or line break.');
    end if;
    field := 'payload.headers.' || header.key;
    if header.name ~ ('^((from|to|cc|bcc|sender|reply-to|subject|date|message-id|mime-version|return-path|received'
      '|received-spf|delivered-to|authentication-results|idempotency-key)$'
      '|(resent|content|arc|dkim|domainkey|resend|x-resend|x-ses|x-outboxd)-)')
    then
      perform outboxd.refuse_payload(
        field, 'is a reserved header', 'Use the payload''s own field; the rest is set by outboxd and the provider.');
    elsif header.name = any (seen) then
      perform outboxd.refuse_payload(field, 'is given twice, in two spellings', 'Keep one of them.');
    elsif header.value <> '""' then
      perform outboxd.check_line(header.value, field, 998);
    end if;
    seen := seen || header.name;
  end loop;
end
$$;
