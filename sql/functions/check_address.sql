-- One address, bare or as Name <address>; returns the bare address, normalised: lower case, the domain as A-labels. The
-- local part is ASCII, since providers refuse others; a domain may hold the letters that IDNA allows.
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
  normalised text;
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

  normalised := outboxd.normalise_address(address);
  if normalised is not null then
    return normalised;
  end if;
  perform outboxd.refuse_address(address, field);
end
$$;
