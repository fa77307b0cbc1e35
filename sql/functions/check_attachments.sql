-- attachments: the bytes themselves, in base64. A path is refused: what the provider would fetch may have changed
-- by the next attempt, and it may be an address inside our network.
create or replace function outboxd.check_attachments(attachments jsonb) returns void
language plpgsql immutable
as $$
declare
  known constant text[] := array['content', 'filename', 'content_type', 'content_id', 'path'];
  item jsonb;
  field text;
begin
  if jsonb_typeof(attachments) <> 'array' or jsonb_array_length(attachments) > 50 then
    perform outboxd.refuse_payload(
      'payload.attachments', 'must be an array of at most 50 objects', 'Write [{"filename": …, "content": …}].');
  end if;
  for place in 0 .. jsonb_array_length(attachments) - 1 loop
    item := attachments -> place;
    field := format('payload.attachments[%s]', place);
    if jsonb_typeof(item) <> 'object' then
      perform outboxd.refuse_payload(
        field, 'must be an object, not ' || jsonb_typeof(item), 'Write {"filename": …, "content": …}.');
    elsif item - known <> '{}' then
      perform outboxd.refuse_unknown(item - known, known, field);
    elsif item ? 'path' then
      perform outboxd.refuse_payload(
        field || '.path', 'is not allowed: a remote file may change between two attempts',
        'Put the bytes in content, in base64.');
    end if;
    perform outboxd.check_filename(item -> 'filename', field || '.filename');
    perform outboxd.check_base64(item -> 'content', field || '.content');
    if item ? 'content_type' then
      perform outboxd.check_media_type(item -> 'content_type', field || '.content_type');
    end if;
    if item ? 'content_id'
      and (jsonb_typeof(item -> 'content_id') <> 'string' or item ->> 'content_id' !~ '^[!#-;=?-~]{1,127}$')
    then
      perform outboxd.refuse_payload(
        field || '.content_id', 'must be 1 to 127 printable ASCII characters without quotes and brackets',
        'Write logo, and cid:logo in the HTML.');
    end if;
  end loop;
end
$$;

create or replace function outboxd.check_filename(filename jsonb, field text) returns void
language plpgsql immutable
as $$
begin
  perform outboxd.check_line(filename, field, 255);
  if filename #>> '{}' ~ '[/\\\u061c\u200b\u202a-\u202e\u2060-\u2069\ufeff]' or filename in ('"."', '".."') then
    perform outboxd.refuse_payload(
      field, 'has a slash, a backslash or an invisible character', 'Give the name alone, without a folder.');
  end if;
end
$$;

create or replace function outboxd.check_media_type(media_type jsonb, field text) returns void
language plpgsql immutable
as $$
begin
  perform outboxd.check_line(media_type, field, 255);
  if media_type #>> '{}' !~ ('^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+'
    '(; ?[A-Za-z0-9!#$&^_.+-]+=([A-Za-z0-9!#$&^_.+-]+|"[^"\\]*"))*$')
  then
    perform outboxd.refuse_payload(field, 'must be type/subtype', 'Write application/pdf, or leave it out.');
  end if;
end
$$;

create or replace function outboxd.check_base64(content jsonb, field text) returns void
language plpgsql immutable
as $$
declare
  size integer;
begin
  if jsonb_typeof(content) is distinct from 'string' then
    perform outboxd.refuse_payload(
      field, 'must be a base64 string, not ' || coalesce(jsonb_typeof(content), 'missing'),
      'Encode the bytes in base64; an array of byte values is not taken.');
  end if;
  begin
    size := octet_length(decode(content #>> '{}', 'base64'));
  exception when invalid_parameter_value then
    perform outboxd.refuse_payload(field, 'is not base64', 'Use the standard alphabet, with padding.');
  end;
  if size = 0 then
    perform outboxd.refuse_payload(field, 'is empty', 'Leave the attachment out.');
  -- decode() skips white space, so the length tells.
  elsif octet_length(content #>> '{}') <> (size + 2) / 3 * 4 then
    perform outboxd.refuse_payload(field, 'has spaces or line breaks in the base64', 'Write it on one line.');
  end if;
end
$$;
