-- The key that a limit of this kind may have: a queue, a type, a provider's name or domain (as A-labels), and so on.
-- Refuses others, such as a domain whose mail counts under a provider's name. Null: the limit holds for each key by itself.
create or replace function outboxd.limit_key(kind text, key text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  provider text;
begin
  if key is null then
    return null;
  elsif kind = 'recipient' then
    raise exception 'key: a limit of kind recipient holds for every mailbox; addresses are no policy'
      using errcode = '22023';
  elsif kind = 'queue' and not exists (select from outboxd.queue where queue.name = limit_key.key) then
    raise exception 'key: there is no queue of this name' using errcode = '22023',
      hint = 'select name from outboxd.queue shows them.';
  elsif kind not in ('provider_minute', 'provider_day') then
    return key;
  end if;
  provider := outboxd.domain_to_ascii(key);
  if provider is null or provider !~ '^[a-z0-9][a-z0-9.-]{0,252}$' then
    raise exception 'key: must be a provider''s name or a domain, whose letters can be written as A-labels'
      using errcode = '22023';
  elsif outboxd.provider_of(provider) <> provider then
    raise exception 'key: this domain is listed under a provider' using errcode = '22023',
      hint = format(case when exists (
        select from outboxd.limit_rule where limit_rule.kind = limit_key.kind and limit_rule.key = limit_key.key)
        then 'It holds nothing. Give it the key %s, the provider''s, or remove it.' else 'Limit the provider: %s.' end,
        outboxd.provider_of(provider));
  end if;
  return provider;
end
$$;
