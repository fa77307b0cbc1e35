-- Refuse the first of these fields, which are not known here, and point to the one that was probably meant.
create or replace function outboxd.refuse_unknown(strangers jsonb, known text[], field text) returns void
language plpgsql immutable
as $$
declare
  stranger text := (select key from jsonb_object_keys(strangers) as key order by key limit 1);
  plain text := lower(translate(stranger, '_- ', ''));
  meant text := (select key from unnest(known) as key where replace(key, '_', '') = plain);
begin
  meant := coalesce(meant, (
    select word.known
    from (values
      ('body', 'html'), ('content', 'html'), ('message', 'html'), ('react', 'html'), ('plain', 'text'),
      ('sender', 'from'), ('mailfrom', 'from'), ('recipient', 'to'), ('recipients', 'to'), ('title', 'subject'),
      ('replytoaddress', 'reply_to'), ('files', 'attachments'), ('attachment', 'attachments'), ('tag', 'tags'),
      ('sendat', 'scheduled_at'), ('templateid', 'template'), ('topic', 'topic_id'), ('name', 'filename'),
      ('mimetype', 'content_type'), ('type', 'content_type'), ('data', 'content'), ('url', 'content'),
      ('inlinecontentid', 'content_id'), ('cid', 'content_id')) as word (said, known)
    where word.said = plain and word.known = any (refuse_unknown.known)));
  perform outboxd.refuse_payload(
    case when stranger ~ '^[A-Za-z0-9_-]{1,60}$' then field || '.' || stranger else field end,
    case when stranger ~ '^[A-Za-z0-9_-]{1,60}$' then 'is not a known field' else 'has an unknown field' end,
    case when meant is null then 'Known are ' || array_to_string(known, ', ') || '.'
      else format('Did you mean %s?', meant) end);
end
$$;
