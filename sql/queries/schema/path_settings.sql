-- For this transaction, or (not `local`) for the session: commit durably whatever the default is, plan once and by index whatever the statistics say,
-- and give up rather than wait for a lock that should never be held long. A transaction whose client is cut off ends by
-- itself, so that its locks hold nobody up: while it is idle, and, where the server knows how (17), while it waits for the
-- rest of what the client was sending; else when keepalives find nobody.
select
  set_config('synchronous_commit',
    case when current_setting('synchronous_commit') in ('off', 'local') then 'on'
      else current_setting('synchronous_commit') end, %(local)s::boolean),
  set_config('enable_seqscan', 'off', %(local)s::boolean),
  set_config('enable_hashjoin', 'off', %(local)s::boolean),
  set_config('enable_mergejoin', 'off', %(local)s::boolean),
  set_config('plan_cache_mode', 'force_generic_plan', %(local)s::boolean),
  set_config('jit', 'off', %(local)s::boolean),
  set_config('statement_timeout', '15s', %(local)s::boolean),
  set_config('lock_timeout', '5s', %(local)s::boolean),
  set_config('idle_in_transaction_session_timeout', '3s', %(local)s::boolean),
  case when current_setting('server_version_num')::integer >= 170000 then
    set_config('transaction_timeout', case when %(local)s::boolean then '20s' else '6s' end, %(local)s::boolean) end,
  case when not %(local)s::boolean then
    set_config('tcp_keepalives_idle', '10', false) || set_config('tcp_keepalives_interval', '3', false)
      || set_config('tcp_keepalives_count', '3', false) end,
  set_config('timezone', 'UTC', %(local)s::boolean)
