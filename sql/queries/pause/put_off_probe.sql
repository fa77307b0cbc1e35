-- Give back a probe that found nothing: the interval is what it was before it, and the next is due when it was. Not at
-- once: it would find nothing again.
update outboxd.pause
set probe_every = least(pause.probe_every, %(every)s::interval)
where pause.kind = %(kind)s and pause.key = %(key)s and pause.by = 'outboxd' and pause.probe_every is not null
