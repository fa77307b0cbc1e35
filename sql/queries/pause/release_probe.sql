-- Give back a probe that asked for nothing: it is due again, at once or after a while, and the next waits no longer for it.
update outboxd.pause
set probe_at = clock_timestamp() + %(after)s::interval,
  probe_every = case when pause.probe_every <= interval '15 min' then pause.probe_every / 2 else pause.probe_every end
where pause.kind = %(kind)s and pause.key = %(key)s and pause.by = 'outboxd' and pause.probe_every is not null
