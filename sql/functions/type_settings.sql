-- The settings of a type as outboxd.set_type takes them, without what it takes from its queue; null: no such type.
create or replace function outboxd.type_settings(name text) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
select jsonb_strip_nulls(jsonb_build_object(
    'queue', email_type.queue, 'max_attempts', email_type.max_attempts, 'backoff', email_type.backoff,
    'backoff_base', outboxd.duration_text(email_type.backoff_base),
    'give_up_after', outboxd.duration_text(email_type.give_up_after)))
from outboxd.email_type
where email_type.name = type_settings.name
$$;
