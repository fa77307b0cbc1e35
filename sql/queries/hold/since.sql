-- For how many seconds each of these emails, or batches, was held since its first failure: by a pause of what it belongs
-- to, by the breaker of its account, by limits. Times that overlap count once. In the order given.
with instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
)
select coalesce((
  select sum(extract(epoch from upper(part.span) - lower(part.span)))
  from (
    select unnest(range_agg(period.spans)
      * tstzmultirange(tstzrange(least(given.since, instant.now), instant.now))) as span
    from (
      select hold.kind, hold.key, tstzmultirange(tstzrange(hold.since, hold.until)) as spans
      from outboxd.hold
      where hold.until > given.since
      union all
      select pause.kind, pause.key,
        tstzmultirange(tstzrange(pause.since, greatest(least(pause.until, instant.now), pause.since)))
      from outboxd.pause
      union all
      select 'breaker', breaker.account,
        tstzmultirange(tstzrange(breaker.opened_at, greatest(breaker.opened_at, instant.now)))
      from outboxd.breaker
      where breaker.state <> 'closed'
      union all
      select null, null, batch.held from outboxd.batch where batch.batch_uid = given.batch_uid
      union all
      select null, null, progress.held from outboxd.progress where progress.id = given.id and given.batch_uid is null) as period
    where period.kind is null
      or (period.kind = any ('{account,breaker}') and period.key = %(account)s)
      or (period.kind, period.key) in (('queue', email.queue), ('type', email.type), ('campaign', email.campaign),
        ('domain', given.domain))
      or period.kind = 'provider' and period.key in (
        select unnest(array[coalesce(outboxd.provider_of(theirs.domain), theirs.domain), domain_mx.provider])
        from (select distinct split_part(address, '@', 2) as domain from unnest(email.recipients) as address) as theirs
        left join outboxd.domain_mx on domain_mx.domain = theirs.domain)) as part), 0)::float8
from unnest(%(ids)s::bigint[], %(batches)s::uuid[], %(since)s::timestamptz[], %(domains)s::text[])
  with ordinality as given (id, batch_uid, since, domain, place)
cross join instant
left join outboxd.email on email.id = given.id
order by given.place
