-- One attachment: content as base64 and a file name. A path is refused: what it points to may change between retries.
create or replace function outboxd.check_attachment(field text, item jsonb) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  bytes integer;
begin
  if jsonb_typeof(item) <> 'object' then
    raise exception '%: must be an object', field using errcode = '22023';
  elsif item ? 'path' then
    raise exception '%.path: remote attachments are refused', field using errcode = '22023',
      hint = 'Their bytes may change between two attempts: put them into content, as base64.';
  elsif item - array['content', 'filename', 'content_type', 'content_id'] <> '{}' then
    raise exception '%: has an unknown key', field using errcode = '22023',
      hint = 'Known are content, filename, content_type and content_id.';
  elsif jsonb_typeof(item -> 'content') is distinct from 'string' then
    raise exception '%.content: must be a base64 string', field using errcode = '22023';
  elsif jsonb_typeof(item -> 'filename') is distinct from 'string'
    or item ->> 'filename' !~ '^[^\x01-\x1f\x7f-\x9f\u2028\u2029/\\]{1,255}$'
  then
    raise exception '%.filename: must be 1 to 255 characters without / \ and control characters', field
      using errcode = '22023';
  elsif item ? 'content_type' and coalesce(item ->> 'content_type', '') !~
    '^[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}(; ?[A-Za-z0-9_-]+="?[A-Za-z0-9_. -]+"?)*$'
  then
    raise exception '%.content_type: must look like type/subtype', field using errcode = '22023';
  elsif item ? 'content_id' and coalesce(item ->> 'content_id', '') !~ '^[A-Za-z0-9@._+-]{1,127}$' then
    raise exception '%.content_id: must be 1 to 127 of A-Z a-z 0-9 @ . _ + -', field using errcode = '22023';
  end if;
  begin
    bytes := octet_length(decode(item ->> 'content', 'base64'));
  exception when data_exception then
    bytes := 0;
  end;
  if bytes = 0 then
    raise exception '%.content: is not base64, or empty', field using errcode = '22023';
  end if;
end
$$;
