-- One address, bare or as Name <address>; returns the bare address, ASCII letters in lower case. The local part is
-- ASCII, since providers refuse others; a domain may hold non-ASCII letters, which the wire converts (IDNA).
-- Names may hold the joiners and marks that Persian, Indic, Hebrew and emoji need (U+200C to U+200F), but no
-- overrides or invisible spaces: they make one address look like another. Addresses hold none of them.
create or replace function outboxd.check_address(entry jsonb, field text) returns text
language plpgsql immutable
as $$
declare
  written text := entry #>> '{}';
  opening integer;
  name text;
  address text := written;
begin
  perform outboxd.check_line(entry, field, 998);
  if right(written, 1) = '>' then
    opening := strpos(written, '<');
    name := left(written, opening - 1);
    address := substr(written, opening + 1, length(written) - opening - 1);
    if name !~ '^ *([^"<>,;:@\\]*[^"<>,;:@\\ ]|"([^"\\<>]|\\["\\])+") +$' then
      perform outboxd.refuse_payload(
        field, 'has a display name that does not read as one',
        'Write Name <name@domain>; a name with any of , ; : @ goes in double quotes, and never holds < or >.');
    elsif name ~ '[\u061c\u200b\u202a-\u202e\u2060-\u2069\ufeff]' then
      perform outboxd.refuse_payload(
        field, 'has an invisible or direction-changing character in the display name', 'Take it out.');
    end if;
  end if;

  if length(address) <= 254
    and strpos(address, '@') <= 65
    and (address ~ ('^[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+)*@'
        '(?:[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*\.)+[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*$')
      or address ~ ('^[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+)*@'
        '([A-Za-z0-9\u00b7-\u1fff\u2c00-\u2dff\u3005-\ud7ff\uf900-\ufdff\U00020000-\U0003ffff]+(-+'
        '[A-Za-z0-9\u00b7-\u1fff\u2c00-\u2dff\u3005-\ud7ff\uf900-\ufdff\U00020000-\U0003ffff]+)*\.)+'
        '[A-Za-z0-9\u00b7-\u1fff\u2c00-\u2dff\u3005-\ud7ff\uf900-\ufdff\U00020000-\U0003ffff]+(-+'
        '[A-Za-z0-9\u00b7-\u1fff\u2c00-\u2dff\u3005-\ud7ff\uf900-\ufdff\U00020000-\U0003ffff]+)*$'))
    and address !~ '\.[0-9]+$'
    and (length(address) <= 64 or split_part(address, '@', 2) !~ '[^.]{64}')
  then
    return lower(address collate "C");
  end if;
  perform outboxd.refuse_address(address, field);
end
$$;
