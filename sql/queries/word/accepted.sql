-- Leave the evidence of an acceptance that came too late for its lease, and the attempt it came from. An email that
-- is already sent needs neither. One with another uid has the id of an email that went with a failover's lost tail: the
-- evidence is not about it.
with news as (
  insert into outboxd.word (id, kind, provider_id)
  select %(id)s::bigint, 'accepted', %(provider_id)s::text
  where exists (select from outboxd.email where email.id = %(id)s::bigint and email.uid = %(uid)s::uuid)
    and not exists (select from outboxd.delivery where delivery.id = %(id)s::bigint and delivery.state = 'sent')
  on conflict do nothing
  returning id
)
insert into outboxd.attempt (id, lease_id, outcome, asked_at, fenced, provider_id)
select news.id, %(lease_id)s::uuid, 'sent', clock_timestamp() - make_interval(secs => %(asked_ago)s), false,
  %(provider_id)s::text
from news
