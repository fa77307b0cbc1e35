-- Which of these addresses (at most 50,000, written in any way) an email must not go to now, with the gravest reason.
-- `scopes` are the email's queue and type; `all` always counts. Addresses come back as given; who may be written to,
-- and what is no address, is not in the answer.
create or replace function outboxd.suppressed(addresses text[], variadic scopes text[] default '{}')
returns table (address text, scope text, reason text, expires_at timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  if cardinality(addresses) > 50000 then
    raise exception 'addresses: at most 50,000 in one call' using errcode = '22023';
  end if;
  return query
  select given.address, found.scope, found.reason, found.expires_at
  from unnest(addresses) with ordinality as given (address, place)
  cross join outboxd.secret
  cross join lateral (
    select suppression.scope, suppression.reason, suppression.expires_at
    from outboxd.suppression
    where suppression.address_hash = outboxd.keyed_hash(
        outboxd.normalise_address(given.address), secret.inner_pad, secret.outer_pad)
      and array_position(scopes || 'all'::text, suppression.scope) is not null
      and (suppression.expires_at is null or suppression.expires_at > clock_timestamp())
    order by outboxd.gravity(suppression.reason), suppression.scope
    limit 1) as found
  order by given.place;
end
$$;
