-- HMAC-SHA-256 of a normalised address, cut to 16 bytes; the pads are those of outboxd.secret. Plain enough for the
-- planner to put it in line, so that a statement over many addresses reads the key once. A normalised address is ASCII
-- without a backslash, so that `escape` decodes it to itself (convert_to is not immutable).
create or replace function outboxd.keyed_hash(address text, inner_pad bytea, outer_pad bytea) returns bytea
language sql immutable parallel safe
return substr(sha256(outer_pad || sha256(inner_pad || decode(address, 'escape'))), 1, 16);
