-- One daemon at a time follows a step of the clock; moving many counts may take longer than a transaction of the path, and
-- so may waiting for who does: its patience is set first. The daemon's own, PATIENCE in outboxd/db/clock.py, is above both.
select set_config('lock_timeout', '30s', true), set_config('statement_timeout', '5min', true),
  case when current_setting('server_version_num')::integer >= 170000 then set_config('transaction_timeout', '0', true) end,
  pg_advisory_xact_lock(7101, 5)
