-- What was recorded about this database. No row: no daemon was ever here.
select
  instance.instance, instance.environment, instance.system_identifier, instance.database_oid::bigint,
  instance.timeline, instance.api_keys, instance.risen_at, instance.risen_id
from outboxd.instance
