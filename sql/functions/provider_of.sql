-- The mailbox provider that a consumer domain is listed under; null where a domain is its own provider. A pattern
-- yahoo.* takes yahoo.fr, yahoo.co.uk and yahoo.com.br, never yahoo.evil.example.
create or replace function outboxd.provider_of(domain text) returns text
language sql stable strict parallel safe
as $$
  select listed.provider
  from outboxd.provider_domain as listed
  where listed.domain = any (array[
    provider_of.domain,
    case when provider_of.domain ~ '^[a-z0-9-]+[.]([a-z]{2,3}|com?[.][a-z]{2})$'
      then split_part(provider_of.domain, '.', 1) || '.*' end])
  order by listed.domain = provider_of.domain desc
  limit 1
$$;
