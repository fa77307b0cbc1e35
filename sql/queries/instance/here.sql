-- Whether this server takes writes, and which database of it we are in.
select
  pg_is_in_recovery() as standby,
  (select pg_database.oid::bigint from pg_database where pg_database.datname = current_database()) as database_oid
