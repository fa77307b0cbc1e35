-- Leave the evidence of acceptances that came too late for their leases, and the attempts they came from. An email that
-- is already sent needs neither. One with another uid has the id of an email that went with a failover's lost tail: the
-- evidence is not about it. Returns the ids of which it is news.
with late as materialized (
  select distinct on (late.id) late.*
  from unnest(%(ids)s::bigint[], %(uids)s::uuid[], %(provider_ids)s::text[], %(leases)s::uuid[],
    %(asked_ago)s::float8[]) as late (id, uid, provider_id, lease_id, asked_ago)
  order by late.id
), news as (
  insert into outboxd.word (id, kind, provider_id)
  select late.id, 'accepted', late.provider_id
  from late
  where (select true from outboxd.email where email.id = late.id and email.uid = late.uid limit 1)
    and (select true from outboxd.delivery where delivery.id = late.id and delivery.state = 'sent' limit 1) is null
  order by late.id
  on conflict do nothing
  returning id
)
insert into outboxd.attempt (id, lease_id, outcome, asked_at, fenced, provider_id)
select late.id, late.lease_id, 'sent', clock_timestamp() - make_interval(secs => late.asked_ago), false,
  late.provider_id
from late
join news on news.id = late.id
returning id
