-- The key under which grants to a mailbox are counted: 16 bytes of a hash of its normalised address. The only place
-- that knows which hash.
create or replace function outboxd.recipient_key(address text) returns bytea
language sql immutable strict parallel safe
as $$
  select substring(sha256(convert_to(address, 'UTF8')) for 16)
$$;
