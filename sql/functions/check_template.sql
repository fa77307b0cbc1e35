-- template: an object names a template stored at the provider, with its variables. A string is a template of
-- outboxd's own, which is not supported yet.
create or replace function outboxd.check_template(template jsonb) returns void
language plpgsql immutable
as $$
declare
  variables jsonb := template -> 'variables';
  variable record;
  field text;
begin
  if jsonb_typeof(template) = 'string' then
    perform outboxd.refuse_payload(
      'payload.template', 'as a name is not supported yet', 'Give html, or {"id": …} of a template at Resend.', '0A000');
  elsif jsonb_typeof(template) <> 'object' then
    perform outboxd.refuse_payload(
      'payload.template', 'must be an object, not ' || jsonb_typeof(template), 'Write {"id": …, "variables": {…}}.');
  elsif template - array['id', 'variables'] <> '{}' then
    perform outboxd.refuse_unknown(template - array['id', 'variables'], array['id', 'variables'], 'payload.template');
  end if;
  perform outboxd.check_line(template -> 'id', 'payload.template.id', 256);
  if jsonb_typeof(variables) <> 'object' then
    perform outboxd.refuse_payload(
      'payload.template.variables', 'must be an object, not ' || jsonb_typeof(variables), 'Write {"NAME": "value"}.');
  elsif variables is null then
    return;
  end if;

  for variable in select entry.key, entry.value, jsonb_typeof(entry.value) as kind from jsonb_each(variables) as entry
  loop
    if variable.key !~ '^[A-Za-z0-9_]{1,50}$' then
      perform outboxd.refuse_payload(
        'payload.template.variables', 'has a name that is not 1 to 50 ASCII letters, digits and _', 'Rename it.');
    end if;
    field := 'payload.template.variables.' || variable.key;
    if variable.key in ('FIRST_NAME', 'LAST_NAME', 'EMAIL', 'UNSUBSCRIBE_URL') then
      perform outboxd.refuse_payload(field, 'is reserved by the provider', 'Rename it.');
    elsif variable.kind = 'string' and length(variable.value #>> '{}') <= 2000 then
      continue;
    elsif variable.kind = 'number' and abs(variable.value::numeric) <= 9007199254740991
      and scale(variable.value::numeric) <= 20
    then
      continue;
    end if;
    perform outboxd.refuse_payload(
      field, 'must be a string of at most 2000 characters or a number of at most 2^53 - 1 and 20 decimal places',
      'Write other values as strings.');
  end loop;
end
$$;
