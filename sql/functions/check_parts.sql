-- The parts that few emails have: headers, attachments, tags, template, provider-side time, topic. Raises 22023 with
-- the path of the field, and 0A000 for what does not exist yet.
create or replace function outboxd.check_parts(payload jsonb) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  reserved constant text := '^(from|to|cc|bcc|sender|reply-to|subject|date|message-id|return-path|received|resent-.*'
    '|content-.*|mime-version|dkim-signature|domainkey-signature|arc-.*|authentication-results|idempotency-key'
    '|resend-.*|x-outboxd-.*)$';
  item record;
  seen text[] := '{}';
  at timestamptz;
begin
  if payload ? 'headers' then
    if jsonb_typeof(payload -> 'headers') <> 'object' then
      raise exception 'headers: must be an object of strings' using errcode = '22023';
    end if;
    for item in select key, value, value #>> '{}' as text, row_number() over () as n from jsonb_each(payload -> 'headers') loop
      if item.key !~ '^[A-Za-z0-9!#$%&''*+.^_`|~-]{1,76}$' then
        raise exception 'headers: name % is not a header''s name', item.n using errcode = '22023';
      elsif lower(item.key) ~ reserved then
        raise exception 'headers.%: is reserved', item.key using errcode = '22023',
          hint = 'It is set from the email''s own fields, or by the provider.';
      elsif lower(item.key) = any (seen) or item.n > 50 then
        raise exception 'headers.%: occurs twice, or is the 51st', item.key using errcode = '22023';
      elsif jsonb_typeof(item.value) <> 'string' or item.text ~ '[\x01-\x1f\x7f-\x9f\u2028\u2029]' or length(item.text) > 998
      then
        raise exception 'headers.%: must be a string of at most 998 characters without line breaks', item.key
          using errcode = '22023';
      end if;
      seen := seen || lower(item.key);
    end loop;
  end if;

  if payload ? 'attachments' then
    if jsonb_typeof(payload -> 'attachments') <> 'array' or jsonb_array_length(payload -> 'attachments') > 50 then
      raise exception 'attachments: must be an array of at most 50' using errcode = '22023';
    end if;
    for item in select value, ordinality - 1 as n from jsonb_array_elements(payload -> 'attachments') with ordinality loop
      perform outboxd.check_attachment(format('attachments[%s]', item.n), item.value);
    end loop;
  end if;

  if payload ? 'tags' then
    if jsonb_typeof(payload -> 'tags') <> 'array' or jsonb_array_length(payload -> 'tags') > 74 then
      raise exception 'tags: must be an array of at most 74' using errcode = '22023';
    end if;
    seen := '{}';
    for item in select value, ordinality - 1 as n from jsonb_array_elements(payload -> 'tags') with ordinality loop
      if jsonb_typeof(item.value) <> 'object' or item.value - array['name', 'value'] <> '{}'
        or coalesce(item.value ->> 'name', '') !~ '^[A-Za-z0-9_-]+$' or length(item.value ->> 'name') > 256
        or coalesce(item.value ->> 'value', '') !~ '^[A-Za-z0-9_-]+$' or length(item.value ->> 'value') > 256
      then
        raise exception 'tags[%]: must be {"name", "value"}, each 1 to 256 of A-Z a-z 0-9 _ -', item.n
          using errcode = '22023';
      elsif item.value ->> 'name' = 'outboxd_uid' or item.value ->> 'name' = any (seen) then
        raise exception 'tags[%].name: is reserved or occurs twice', item.n using errcode = '22023';
      end if;
      seen := seen || (item.value ->> 'name');
    end loop;
  end if;

  if payload ? 'template' then
    if jsonb_typeof(payload -> 'template') = 'string' then
      raise exception 'template: templates of outboxd are not supported yet' using errcode = '0A000',
        hint = 'An object {"id", "variables"} is Resend''s own template.';
    end if;
    perform outboxd.check_template(payload -> 'template');
  end if;

  if payload ? 'scheduled_at' then
    begin
      if payload ->> 'scheduled_at' !~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)$' then
        raise invalid_datetime_format;
      end if;
      at := (payload ->> 'scheduled_at')::timestamptz;
    exception when data_exception then
      raise exception 'scheduled_at: must be an ISO 8601 instant with a zone' using errcode = '22023',
        hint = 'Words like "in an hour" mean something else at each attempt. The column scheduled_at delays in outboxd.';
    end;
    if at > clock_timestamp() + interval '30 days' then
      raise exception 'scheduled_at: the provider takes at most 30 days ahead' using errcode = '22023';
    end if;
  end if;

  if payload ? 'topic_id' and coalesce(payload ->> 'topic_id', '') !~ '^[0-9a-fA-F-]{36}$' then
    raise exception 'topic_id: must be a uuid' using errcode = '22023';
  end if;
end
$$;
