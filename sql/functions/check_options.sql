-- The fields that most payloads do without, and those that no payload has. cc and bcc count with to: check_payload.
create or replace function outboxd.check_options(options jsonb) returns void
language plpgsql stable
as $$
declare
  known constant text[] := array['from', 'to', 'cc', 'bcc', 'reply_to', 'subject', 'html', 'text', 'headers',
    'attachments', 'tags', 'scheduled_at', 'topic_id', 'template'];
begin
  if options - known <> '{}' then
    perform outboxd.refuse_unknown(options - known, known, 'payload');
  end if;
  if options ? 'reply_to' then
    perform outboxd.check_addresses(options -> 'reply_to', 'payload.reply_to');
  end if;
  if options ? 'headers' then
    perform outboxd.check_headers(options -> 'headers');
  end if;
  if options ? 'attachments' then
    perform outboxd.check_attachments(options -> 'attachments');
  end if;
  if options ? 'tags' then
    perform outboxd.check_tags(options -> 'tags');
  end if;
  if options ? 'scheduled_at' then
    perform outboxd.check_scheduled_at(options -> 'scheduled_at');
  end if;
  if options ? 'topic_id'
    and (jsonb_typeof(options -> 'topic_id') <> 'string'
      or options ->> 'topic_id' !~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$')
  then
    perform outboxd.refuse_payload('payload.topic_id', 'must be a UUID', 'Copy the id of the topic from Resend.');
  end if;
  if options ? 'template' then
    perform outboxd.check_template(options -> 'template');
  end if;
end
$$;
