-- Whether this can become a request to Resend; returns the recipients (to, cc, bcc; bare, in lower case). Raises 22023
-- with a message that begins with the field's path, 0A000 for what does not exist yet. Errors land in logs: values
-- are never printed.
create or replace function outboxd.check_payload(payload jsonb) returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  known constant text[] := array['from', 'to', 'cc', 'bcc', 'reply_to', 'subject', 'html', 'text', 'headers',
    'attachments', 'tags', 'scheduled_at', 'topic_id', 'template'];
  recipients text[];
  field text;
begin
  if jsonb_typeof(payload) <> 'object' then
    raise exception 'payload: must be an object' using errcode = '22023';
  elsif octet_length(payload::text) > 41943040 then
    raise exception 'payload: has more than 40 MB' using errcode = '22023';
  elsif payload - known <> '{}' then
    select key into field from jsonb_object_keys(payload - known) as key limit 1;
    raise exception 'payload: has a key that Resend does not know' using errcode = '22023',
      hint = coalesce('Did you mean ' || case replace(replace(lower(field), '-', ''), '_', '')
        when 'replyto' then 'reply_to' when 'body' then 'html or text' when 'message' then 'text'
        when 'scheduledat' then 'scheduled_at' when 'sender' then 'from' when 'recipient' then 'to'
        when 'recipients' then 'to' when 'attachment' then 'attachments' when 'topicid' then 'topic_id'
        when 'header' then 'headers' when 'tag' then 'tags' when 'sendat' then 'scheduled_at' end || '?',
        'Known are ' || array_to_string(known, ', ') || '.');
  end if;
  if jsonb_path_exists(payload, '$.* ? (@ == null)') then
    select key into field from jsonb_each(payload) where value = 'null' limit 1;
    raise exception '%: is null', field using errcode = '22023', hint = 'Leave it out.';
  end if;
  if not payload ? 'to' then
    raise exception 'to: is missing' using errcode = '22023';
  end if;

  recipients := outboxd.check_addresses('to', payload -> 'to');
  if payload ? 'cc' then
    recipients := recipients || outboxd.check_addresses('cc', payload -> 'cc');
  end if;
  if payload ? 'bcc' then
    recipients := recipients || outboxd.check_addresses('bcc', payload -> 'bcc');
  end if;
  if cardinality(recipients) > 50 then
    raise exception 'to, cc, bcc: have more than 50 recipients together' using errcode = '22023';
  end if;
  if payload ? 'reply_to' then
    perform outboxd.check_addresses('reply_to', payload -> 'reply_to');
  end if;

  if payload ? 'from' then
    perform outboxd.check_addresses('from', payload -> 'from', true);
  elsif not payload ? 'template' then
    raise exception 'from: is missing' using errcode = '22023';
  end if;
  if payload ? 'subject' then
    if jsonb_typeof(payload -> 'subject') <> 'string' or payload ->> 'subject' !~ '[^[:space:]]'
      or length(payload ->> 'subject') > 998 or payload ->> 'subject' ~ '[\x01-\x1f\x7f-\x9f\u2028\u2029]'
    then
      raise exception 'subject: must be 1 to 998 characters without line breaks and control characters'
        using errcode = '22023';
    end if;
  elsif not payload ? 'template' then
    raise exception 'subject: is missing' using errcode = '22023';
  end if;
  if coalesce(jsonb_typeof(payload -> 'html'), 'string') <> 'string' then
    raise exception 'html: must be a string' using errcode = '22023';
  elsif coalesce(jsonb_typeof(payload -> 'text'), 'string') <> 'string' then
    raise exception 'text: must be a string' using errcode = '22023';
  elsif payload ? 'template' then
    if payload ?| array['html', 'text'] then
      raise exception 'template: excludes html and text' using errcode = '22023';
    end if;
  elsif coalesce(payload ->> 'html', '') = '' and coalesce(payload ->> 'text', '') = '' then
    raise exception 'html: is empty, and so is text' using errcode = '22023', hint = 'One of them must say something.';
  end if;
  if payload ?| array['headers', 'attachments', 'tags', 'template', 'scheduled_at', 'topic_id'] then
    perform outboxd.check_parts(payload);
  end if;
  return recipients;
end
$$;
