-- Give back a probe that asked for nothing: it is due again at once, and the one after it waits no longer for it.
update outboxd.pause
set probe_at = clock_timestamp(),
  probe_every = case when pause.probe_every <= interval '15 min' then greatest(interval '15 s', pause.probe_every / 2) else pause.probe_every end
where pause.kind = %(kind)s and pause.key = %(key)s and pause.by = 'outboxd' and pause.probe_every is not null
