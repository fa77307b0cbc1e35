-- All policy as one object: {"queues": {name: settings}, "types": {…}, "limits": {…}}, as the set_ functions take it.
create or replace function outboxd.whole_policy() returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
select jsonb_build_object(
  'queues', (select coalesce(jsonb_object_agg(name, outboxd.queue_settings(name)), '{}') from outboxd.queue),
  'types', (select coalesce(jsonb_object_agg(name, outboxd.type_settings(name)), '{}') from outboxd.email_type),
  'limits', (select coalesce(jsonb_object_agg(name, outboxd.limit_settings(name)), '{}') from outboxd.limit_rule))
$$;
