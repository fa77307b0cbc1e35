-- Raise the error for one field of a payload. The message holds the path, never the value: it lands in logs.
create or replace function outboxd.refuse_payload(field text, problem text, hint text, code text default '22023')
returns void
language plpgsql immutable
as $$
begin
  raise exception '%: %', field, problem
    using errcode = code, hint = hint, schema = 'outboxd', table = 'email', column = 'payload';
end
$$;
