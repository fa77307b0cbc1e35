-- What `outboxd check` wants to know about a server: its version, whether it takes writes, its clock.
select
  current_setting('server_version_num')::integer as version,
  pg_is_in_recovery() as standby,
  extract(epoch from clock_timestamp())::float8 as now
