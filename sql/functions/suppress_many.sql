-- Suppress many addresses in one statement: parallel arrays, at most 50,000. Whoever is suppressed already under the
-- scope keeps the gravest reason and the latest expiry; what has expired is replaced. Returns how many rows are new, how
-- many were changed, and the positions (from 1) of what is no address: the caller decides whether these fail the rest.
-- Rows are written in the order of their keys, and an erasure (`gdpr`) writes alone, so that two calls cannot deadlock.
create or replace function outboxd.suppress_many(
  addresses text[], reasons text[], scopes text[], sources text[], causes text[], expiries timestamptz[],
  metadata jsonb[], out added integer, out changed integer, out refused integer[])
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  erased bytea[];
begin
  if cardinality(addresses) > 50000 then
    raise exception 'addresses: at most 50,000 in one call' using errcode = '22023';
  end if;
  -- Before the snapshot of what follows: who writes beside an erasure that it does not see would keep the readable
  -- address, and the erasure would not see that row. No lock of the table: its vacuum goes on meanwhile.
  if 'gdpr' = any (reasons) then
    perform pg_advisory_xact_lock(7101, 6);
  else
    perform pg_advisory_xact_lock_shared(7101, 6);
  end if;
  with given as materialized (
    select item.place, outboxd.normalise_address(item.address) as address, item.reason, item.scope, item.source,
      item.cause, nullif(item.expires_at, 'infinity') as expires_at, coalesce(item.metadata, '{}') as metadata
    from unnest(addresses, reasons, scopes, sources, causes, expiries, metadata)
      with ordinality as item (address, reason, scope, source, cause, expires_at, metadata, place)
  ), hashed as materialized (
    select outboxd.keyed_hash(given.address, secret.inner_pad, secret.outer_pad) as address_hash, given.*,
      outboxd.gravity(given.reason) as gravity, coalesce(given.expires_at, 'infinity') as until
    from given
    cross join outboxd.secret
    where given.address is not null
  ), single as (
    select distinct on (hashed.address_hash, hashed.scope) hashed.*,
      max(hashed.until) over (partition by hashed.address_hash, hashed.scope) as latest,
      bool_or(hashed.reason = 'gdpr') over (partition by hashed.address_hash) or gone.address_hash is not null as erased
    from hashed
    left join lateral (
      select other.address_hash
      from outboxd.suppression as other
      where other.address_hash = hashed.address_hash and other.reason = 'gdpr'
      limit 1) as gone on true
    order by hashed.address_hash, hashed.scope, hashed.gravity, hashed.until desc
  ), written as (
    insert into outboxd.suppression as held
      (address_hash, scope, reason, source, cause, address, expires_at, metadata)
    select single.address_hash, single.scope, single.reason, single.source, single.cause,
      case when not single.erased then single.address end, nullif(single.latest, 'infinity'), single.metadata
    from single
    order by single.address_hash, single.scope
    on conflict (address_hash, scope) do update
    set
      reason = case when outboxd.replaces(excluded, held)
        then excluded.reason else held.reason end,
      source = case when outboxd.replaces(excluded, held)
        then excluded.source else held.source end,
      cause = case when outboxd.replaces(excluded, held)
        then excluded.cause else held.cause end,
      metadata = case when outboxd.replaces(excluded, held)
        then excluded.metadata else held.metadata end,
      created_at = case when outboxd.replaces(excluded, held)
        then excluded.created_at else held.created_at end,
      expires_at = case when held.expires_at <= clock_timestamp() then excluded.expires_at
        else nullif(greatest(coalesce(held.expires_at, 'infinity'), coalesce(excluded.expires_at, 'infinity')),
          'infinity') end,
      address = excluded.address
    where outboxd.replaces(excluded, held)
      or coalesce(excluded.expires_at, 'infinity') > coalesce(held.expires_at, 'infinity')
      or (excluded.address is null) <> (held.address is null)
    returning held.address_hash, held.reason, held.xmax = 0 as is_new
  )
  select count(*) filter (where written.is_new), count(*) filter (where not written.is_new),
    array(select given.place::integer from given where given.address is null order by given.place),
    array_agg(written.address_hash) filter (where written.reason = 'gdpr')
  into added, changed, refused, erased
  from written;

  if erased is not null then
    update outboxd.suppression
    set address = null
    where suppression.address_hash = any (erased) and suppression.address is not null;
  end if;
end
$$;
