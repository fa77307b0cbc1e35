-- Say why check_address does not take this address, without showing it. Always raises.
create or replace function outboxd.refuse_address(address text, field text) returns void
language plpgsql immutable
as $$
declare
  local text := split_part(address, '@', 1);
  domain text := split_part(address, '@', 2);
begin
  if address ~ '[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]' then
    perform outboxd.refuse_payload(field, 'has an invisible character in the address', 'Take it out.');
  elsif address ~ '[\s,;]' then
    perform outboxd.refuse_payload(
      field, 'must be one address without spaces', 'Give several addresses as an array; write Name <name@domain>.');
  elsif address ~ '["<>()\\]' then
    perform outboxd.refuse_payload(
      field, 'has a quote, bracket or backslash in the address', 'Write name@domain or Name <name@domain>.');
  elsif length(address) - length(replace(address, '@', '')) <> 1 then
    perform outboxd.refuse_payload(
      field, 'is not an address: it needs exactly one @', 'Write name@domain or Name <name@domain>.');
  elsif length(address) > 254 or length(local) > 64 or domain ~ '[^.]{64}' then
    perform outboxd.refuse_payload(
      field, 'is too long', 'An address has at most 254 characters, 64 before the @ and 63 between two dots after it.');
  elsif local ~ '[^\x01-\x7f]' then
    perform outboxd.refuse_payload(
      field, 'has a character outside ASCII before the @', 'Providers do not take such addresses.');
  elsif address ~ '^\.|\.@|\.\.|@\.|\.$' or local = '' or domain = '' then
    perform outboxd.refuse_payload(
      field, 'has a dot or an @ where a name is needed', 'Write name@domain or Name <name@domain>.');
  elsif domain ~ '[\[\]:]' or domain ~ '(^|\.)[0-9]+$' then
    perform outboxd.refuse_payload(field, 'has a domain that is an IP address or ends in digits', 'Give a domain name.');
  elsif strpos(domain, '.') = 0 then
    perform outboxd.refuse_payload(field, 'has a domain without a dot', 'Give the whole domain: name@shop.example.');
  elsif domain ~ '[^\x01-\x7f]' then
    perform outboxd.refuse_payload(
      field, 'has a domain that cannot be converted for sending', 'Write its small letters, or its form with xn--.');
  end if;
  perform outboxd.refuse_payload(
    field, 'has a character that an address cannot have', 'Write name@domain or Name <name@domain>.');
end
$$;
