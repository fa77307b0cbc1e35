-- Record this database, unless somebody was first.
insert into outboxd.instance (instance, environment, system_identifier, database_oid, timeline, api_keys)
values (%(instance)s::uuid, %(environment)s, %(system_identifier)s, %(database_oid)s::bigint::oid, %(timeline)s::integer,
  array[%(api_key)s::text])
on conflict do nothing
