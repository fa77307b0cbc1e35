-- The one bare address of to, in lower case, in an array, where a payload has the plain shape of most emails: from, to,
-- subject, html and text as strings, ASCII addresses, no other field, up to 25,000 bytes. Null: check_payload decides.
-- Takes nothing that check_payload refuses. One expression, because each expression of PL/pgSQL is set up anew in
-- every transaction, which costs a single INSERT more than evaluating it.
create or replace function outboxd.check_plain(payload jsonb) returns text[]
language plpgsql immutable
as $$
begin
  return case when pg_column_size(payload) <= 25000
    and jsonb_typeof(payload) = 'object'
    and payload - array['from', 'to', 'subject', 'html', 'text'] = '{}'
    and jsonb_typeof(payload -> 'from') = 'string'
    and jsonb_typeof(payload -> 'to') = 'string'
    and jsonb_typeof(payload -> 'subject') = 'string'
    and jsonb_typeof(coalesce(payload -> 'html', payload -> 'text')) = 'string'
    and jsonb_typeof(coalesce(payload -> 'text', payload -> 'html')) = 'string'
    and coalesce(payload -> 'html', payload -> 'text') <> '""'
    and length(payload ->> 'from') <= 64
    and length(payload ->> 'to') <= 64
    and length(payload ->> 'subject') <= 998
    and payload ->> 'subject' ~ '^[^ \x01-\x1f\x7f-\x9f\u2028\u2029][^\x01-\x1f\x7f-\x9f\u2028\u2029]*$'
    and payload ->> 'from' ~ ('^(?:[A-Za-z0-9](?:[A-Za-z0-9 .''_-]*[A-Za-z0-9])? <[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*'
      '@(?:[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*\.)+[A-Za-z]+>|[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*'
      '@(?:[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*\.)+[A-Za-z]+)$')
    and payload ->> 'to' ~ ('^[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@(?:[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*\.)+[A-Za-z]+$')
    then array[lower(payload ->> 'to' collate "C")] end;
end
$$;
