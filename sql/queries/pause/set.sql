-- Pause something for every daemon. A pause that is active already stays as it is, with its probes.
insert into outboxd.pause as known (kind, key, reason, detail, since, until, probe_at, probe_every, by)
select %(kind)s, %(key)s, %(reason)s, %(detail)s, instant.now, instant.now + %(lasts)s::interval,
  instant.now + %(probe_every)s::interval, %(probe_every)s::interval, %(by)s
from (select coalesce(%(now)s::timestamptz, clock_timestamp()) as now) as instant
on conflict (kind, key) do update
set reason = excluded.reason, detail = excluded.detail, since = excluded.since, until = excluded.until,
  probe_at = excluded.probe_at, probe_every = excluded.probe_every, by = excluded.by
where known.until <= excluded.since
returning known.kind
