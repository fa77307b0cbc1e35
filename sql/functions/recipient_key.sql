-- The key under which grants to a mailbox are counted: 16 bytes of a hash of its normalised address. The only place
-- that knows which hash. Plain enough for the planner to put it in line (convert_to is not immutable, and a strict
-- function stays a call); a normalised address is ASCII without a backslash, which `escape` decodes to itself.
create or replace function outboxd.recipient_key(address text) returns bytea
language sql immutable parallel safe
return substr(sha256(decode(address, 'escape')), 1, 16);
