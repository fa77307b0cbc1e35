-- Record this database as ours, whatever was recorded before.
insert into outboxd.instance as known
  (instance, environment, system_identifier, database_oid, timeline, api_keys)
values (%(instance)s::uuid, %(environment)s, %(system_identifier)s, %(database_oid)s::bigint::oid, %(timeline)s::integer,
  array[%(api_key)s::text])
on conflict (one) do update
set instance = excluded.instance, environment = excluded.environment, system_identifier = excluded.system_identifier,
  database_oid = excluded.database_oid, timeline = excluded.timeline, api_keys = excluded.api_keys,
  seen_at = excluded.seen_at, adopted_at = excluded.adopted_at, adopted_by = excluded.adopted_by
