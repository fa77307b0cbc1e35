-- A domain with each label as its A-label, in lower case; null where a label has a letter that domain_letters does not
-- know (signs, full width, ligatures, invisible ones): such a domain is written as A-labels or not at all.
create or replace function outboxd.domain_to_ascii(domain text) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  labels text[];
begin
  if length(domain) > 254 then
    return null;
  end if;
  labels := string_to_array(outboxd.domain_in_lower_case(domain), '.');
  for place in 1 .. cardinality(labels) loop
    continue when labels[place] !~ '[^\x01-\x7f]';
    if length(labels[place]) > 59 or labels[place] ~ '^-|-$|^..--' or exists (
      select from regexp_split_to_table(labels[place], '') as letter
      where not ascii(letter) <@ outboxd.domain_letters())
    then
      return null;
    end if;
    labels[place] := 'xn--' || outboxd.punycode(labels[place]);
  end loop;
  return array_to_string(labels, '.');
end
$$;
