-- Under which key an address, written in any way, stands in outboxd.suppression. Null: not an address.
create or replace function outboxd.address_hash(address text) returns bytea
language plpgsql stable strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  normalised text := outboxd.normalise_address(address);
begin
  return (select outboxd.keyed_hash(normalised, secret.inner_pad, secret.outer_pad) from outboxd.secret);
end
$$;
