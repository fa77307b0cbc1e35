-- Keep what DNS said. In the order of the domains, so that daemons which looked up the same ones do not deadlock.
insert into outboxd.domain_mx (domain, provider, looked_up_at, expires_at)
select given.domain, given.provider, clock_timestamp(), clock_timestamp() + given.keep_for
from unnest(%(domains)s::text[], %(providers)s::text[], %(keep_for)s::interval[]) as given (domain, provider, keep_for)
order by given.domain
on conflict (domain) do update
set provider = excluded.provider, looked_up_at = excluded.looked_up_at, expires_at = excluded.expires_at
