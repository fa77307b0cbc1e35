-- One line of text: a string that is not blank, not longer than `longest` characters and has no control characters,
-- which is how header lines are smuggled in.
create or replace function outboxd.check_line(value jsonb, field text, longest integer) returns void
language plpgsql immutable
as $$
declare
  line text := value #>> '{}';
begin
  if jsonb_typeof(value) is distinct from 'string' then
    perform outboxd.refuse_payload(
      field, 'must be a string, not ' || coalesce(jsonb_typeof(value), 'missing'), 'Write it in double quotes.');
  elsif line ~ '^ *$' then
    perform outboxd.refuse_payload(field, 'is empty', 'Give at least one visible character.');
  elsif length(line) > longest then
    perform outboxd.refuse_payload(
      field, format('has more than %s characters', longest), 'Shorten it.');
  elsif line ~ '[\x01-\x1f\x7f-\x9f\u2028\u2029]' then
    perform outboxd.refuse_payload(
      field, 'has a control character or a line break', 'Keep it on one line; no tab, CR or LF.');
  end if;
end
$$;
