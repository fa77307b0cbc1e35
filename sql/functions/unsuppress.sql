-- Let email go to this address again, in one scope or (null) in all; returns how many suppressions were taken away.
-- What an erasure left (reason gdpr) stays unless `erased` says so: the person must have asked for email again.
-- Raises 22023 for what is no address.
create or replace function outboxd.unsuppress(address text, scope text default null, erased boolean default false)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  hash bytea := outboxd.address_hash(address);
  removed integer;
begin
  if hash is null then
    raise exception 'address: is not an address' using errcode = '22023', hint = 'Write name@domain, without a name.';
  end if;
  perform pg_advisory_xact_lock_shared(7101, 6);  -- an erasure writes alone: see suppress_many
  delete from outboxd.suppression
  where suppression.address_hash = hash
    and (unsuppress.scope is null or suppression.scope = unsuppress.scope)
    and (unsuppress.erased or suppression.reason <> 'gdpr');
  get diagnostics removed = row_count;
  return removed;
end
$$;
