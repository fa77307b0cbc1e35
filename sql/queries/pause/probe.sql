-- Take the probe that is due, for this daemon alone; the next one comes after twice the pause, at most 15 minutes or
-- the pause's own interval where that is longer. One that is further away is due: the clock went back. Domains and types:
-- `lane` is where their emails wait. `every` is the interval before that. No row: none due.
update outboxd.pause
set probe_at = instant.now + pause.probe_every,
  probe_every = least(pause.probe_every * 2, greatest(interval '15 min', pause.probe_every))
from (select coalesce(%(now)s::timestamptz, clock_timestamp()) as now) as instant
where (pause.kind, pause.key) = (
    select due.kind, due.key
    from outboxd.pause as due
    where (due.probe_at <= (select coalesce(%(now)s::timestamptz, clock_timestamp()))
        or due.probe_at > (select coalesce(%(now)s::timestamptz, clock_timestamp())) + due.probe_every)
      and (due.until is null or due.until > (select coalesce(%(now)s::timestamptz, clock_timestamp())))
      and (due.kind <> 'account' or due.key = %(account)s)
    order by due.probe_at
    limit 1
    for update skip locked)
returning pause.kind, pause.key, pause.reason, pause.detail, pause.probe_at - instant.now as every
