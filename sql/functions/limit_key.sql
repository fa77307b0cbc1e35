-- The key that a limit of this kind may have: a queue, a type, a provider's name or domain, and so on. Refuses others.
-- Null: the limit holds for each key by itself.
create or replace function outboxd.limit_key(kind text, key text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if key is null then
    return null;
  elsif kind = 'recipient' then
    raise exception 'key: a limit of kind recipient holds for every mailbox; addresses are no policy'
      using errcode = '22023';
  elsif kind = 'queue' and not exists (select from outboxd.queue where queue.name = limit_key.key) then
    raise exception 'key: there is no queue of this name' using errcode = '22023';
  elsif kind in ('provider_minute', 'provider_day') and key !~ '^[a-z0-9][a-z0-9.-]{0,252}$' then
    raise exception 'key: must be a provider''s name or a domain in lower case' using errcode = '22023';
  end if;
  return key;
end
$$;
