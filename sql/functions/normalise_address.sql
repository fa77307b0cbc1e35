-- The one form in which a bare address is compared, stored and hashed: lower case, the domain as A-labels. Null: not an
-- address that email can be sent to. Dots and plus tags stay: what they mean is the mailbox provider's business.
-- The Python twin is outboxd/core/address.py; a test holds the two together.
create or replace function outboxd.normalise_address(address text) returns text
language plpgsql immutable strict parallel safe
as $$
begin
  if octet_length(address) <> length(address) then
    if length(address) > 254 or split_part(address, '@', 1) ~ '[^\x01-\x7f]' then
      return null;
    end if;
    address := split_part(address, '@', 1) || '@' || outboxd.domain_to_ascii(substr(address, strpos(address, '@') + 1));
  end if;
  if length(address) <= 254
    and strpos(address, '@') <= 65
    and address ~ ('^[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+)*'
      '@([A-Za-z0-9]+(-+[A-Za-z0-9]+)*\.)+[A-Za-z0-9]+(-+[A-Za-z0-9]+)*$')
    and address !~ '\.[0-9]+$'
    and (length(address) <= 64 or split_part(address, '@', 2) !~ '[^.]{64}')
  then
    return lower(address collate "C");
  end if;
  return null;
end
$$;
