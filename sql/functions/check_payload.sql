-- What a payload must be so that it can be sent at all; returns the addresses of to, cc and bcc, ASCII letters in
-- lower case. Raises 22023 (0A000 for what is not supported yet) with a message that starts with the field's path
-- and holds no value of the payload. Called for every inserted row: what is rare is looked at only where present.
create or replace function outboxd.check_payload(payload jsonb) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  options jsonb;
  recipients text[];
begin
  if payload is null then
    perform outboxd.refuse_payload('payload', 'is missing', 'Write {"from": …, "to": …, "subject": …}.');
  elsif jsonb_typeof(payload) <> 'object' then
    perform outboxd.refuse_payload('payload', 'must be a JSON object', 'Write {"from": …, "to": …, "subject": …}.');
  end if;
  -- Up to 25,000 stored bytes the text is below the limit even if they are compressed (at most 255 times) and
  -- all escapes (6 times); above, only the text tells.
  if pg_column_size(payload) > 25000 and octet_length(payload::text) > 41943040 then
    perform outboxd.refuse_payload(
      'payload', 'is larger than 40 MB (41,943,040 bytes)', 'Send a link instead of the attachment.');
  end if;

  options := payload - array['from', 'to', 'subject', 'html', 'text'];
  if options <> '{}' then
    perform outboxd.check_options(options);
  end if;
  perform outboxd.check_content(payload, options ? 'template');

  recipients := outboxd.check_addresses(payload -> 'to', 'payload.to');
  if options <> '{}' then
    if options ? 'cc' then
      recipients := recipients || outboxd.check_addresses(options -> 'cc', 'payload.cc');
    end if;
    if options ? 'bcc' then
      recipients := recipients || outboxd.check_addresses(options -> 'bcc', 'payload.bcc');
    end if;
    if cardinality(recipients) > 50 then
      perform outboxd.refuse_payload(
        'payload.to', 'has more than 50 addresses together with cc and bcc', 'Insert one email for each recipient.');
    end if;
  end if;
  return recipients;
end
$$;
