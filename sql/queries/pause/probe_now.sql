-- Probe the pauses of this account, and of the domains that it may send from, at once.
update outboxd.pause
set probe_at = clock_timestamp(), probe_every = least(pause.probe_every, interval '60 s')
where pause.by = 'outboxd' and (pause.kind = 'domain' or (pause.kind = 'account' and pause.key = %(account)s))
  and pause.reason <> 'daily_quota'
