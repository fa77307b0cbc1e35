-- One daemon at a time follows a step of the clock; moving many counts may take longer than a transaction of the path.
select pg_advisory_xact_lock(7101, 5), set_config('statement_timeout', '5min', true), set_config('lock_timeout', '30s', true),
  case when current_setting('server_version_num')::integer >= 170000 then set_config('transaction_timeout', '0', true) end
