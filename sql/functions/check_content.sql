-- from, subject, html and text: a template may supply the first two and replaces the last two.
create or replace function outboxd.check_content(payload jsonb, templated boolean) returns void
language plpgsql immutable
as $$
declare
  key text;
  kind text;
begin
  if payload ? 'from' then
    perform outboxd.check_address(payload -> 'from', 'payload.from');
  elsif not templated then
    perform outboxd.refuse_payload('payload.from', 'is missing', 'Write name@domain or Name <name@domain>.');
  end if;

  if payload ? 'subject' then
    perform outboxd.check_line(payload -> 'subject', 'payload.subject', 998);
  elsif not templated then
    perform outboxd.refuse_payload('payload.subject', 'is missing', 'Every email needs a subject.');
  end if;

  foreach key in array array['html', 'text'] loop
    kind := jsonb_typeof(payload -> key);
    if kind is null then
      continue;
    elsif templated then
      perform outboxd.refuse_payload(
        'payload.' || key, 'excludes payload.template', 'Leave out one of the two.');
    elsif kind <> 'string' then
      perform outboxd.refuse_payload(
        'payload.' || key, 'must be a string, not ' || kind, 'Leave the field out where there is nothing to say.');
    end if;
  end loop;
  if not templated and coalesce(payload ->> 'html', '') = '' and coalesce(payload ->> 'text', '') = '' then
    perform outboxd.refuse_payload(
      'payload.html', 'is missing or empty, and so is payload.text', 'Give at least one of html and text.');
  end if;
end
$$;
