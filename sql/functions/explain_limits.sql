-- Every limit that an email is under: what of it is granted now, whether it holds the email, and from when on it can
-- grant. The same arithmetic as grant_limits, without locks and for this email alone: what is asked for at the same
-- moment is not foreseen. `recipients` are those that are left. Of a suspended provider `most` may be null.
-- In UTC every day of a limit has 24 hours, as for the daemons.
create or replace function outboxd.explain_limits(
  id bigint, queue text, type text, campaign text, tenant text, recipients text[], at timestamptz)
returns table (place bigint, kind text, key text, used integer, most integer, per interval, held boolean, free_at timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
begin
return query
with mailbox as (
  select given.address, min(given.place) as place
  from unnest(recipients) with ordinality as given (address, place)
  group by given.address
), provider as (
  select coalesce(listed.name, of_domain.domain) as name,
    max(coalesce(listed.name, domain_mx.provider, of_domain.domain)) as shaped_by,
    sum(of_domain.units)::integer as units, min(of_domain.place) as place
  from (
    select split_part(mailbox.address, '@', 2) as domain, count(*) as units, min(mailbox.place) as place
    from mailbox
    group by split_part(mailbox.address, '@', 2)) as of_domain
  cross join lateral (select outboxd.provider_of(of_domain.domain) as name) as listed
  left join outboxd.domain_mx
    on domain_mx.domain = of_domain.domain and listed.name is null and domain_mx.expires_at > explain_limits.at
  group by coalesce(listed.name, of_domain.domain)
), wanted as (
  select 'recipient' as kind, mailbox.address as key, null as shaped_by, 1 as units, mailbox.place
  from mailbox
  union all
  select given.kind, given.key, null, 1, 100 + given.place
  from (values ('queue', queue, 1), ('type', type, 2), ('campaign', campaign, 3), ('tenant', tenant, 4))
    as given (kind, key, place)
  where given.key <> ''
  union all
  select given.kind, provider.name, provider.shaped_by, provider.units, 200 + 2 * provider.place + given.place
  from provider
  cross join (values ('provider_minute', 0), ('provider_day', 1)) as given (kind, place)
), ruled as (
  select wanted.kind, wanted.key, wanted.shaped_by, wanted.units, wanted.place, rule.most, rule.per,
    rule.per + case wanted.kind when 'recipient' then interval '1.05 s' else interval '1.005 s' end as reach, slowed.rate_factor,
    case when slowed.suspended_until > explain_limits.at then slowed.suspended_until end as closed
  from wanted
  left join lateral (
    select limit_rule.most, limit_rule.per
    from (
      select named.most, named.per, named.options
      from outboxd.limit_rule as named
      where named.kind = wanted.kind
        and (named.key is null or wanted.kind <> 'recipient' and named.key = wanted.key)
      order by named.key is null
      limit 1) as limit_rule
    where limit_rule.most is not null
      and not coalesce(limit_rule.options -> 'exempt_types' ? explain_limits.type, false)) as rule on true
  left join lateral (
    select override.rate_factor, override.suspended_until
    from outboxd.provider_override as override
    where wanted.shaped_by is not null and override.provider in (wanted.key, wanted.shaped_by)
    order by override.provider <> wanted.key
    limit 1) as slowed on true
  where rule.most is not null or slowed.suspended_until > explain_limits.at
), counted as (
  select ruled.kind, ruled.key, ruled.place, ruled.per, ruled.reach, ruled.closed,
    ruled.kind = 'recipient' and mine.already as moves,
    case when ruled.rate_factor is null or ruled.most is null then ruled.most
      else greatest(1, floor(ruled.most * ruled.rate_factor))::integer end as most,
    case when ruled.kind = 'recipient' then mine.others else known.used end as used,
    ruled.units
  from ruled
  left join lateral (
    select count(*) filter (where entry.email <> explain_limits.id)::integer as others,
      coalesce(bool_or(entry.email = explain_limits.id), false) as already
    from outboxd.recipient_count
    cross join lateral unnest(recipient_count.emails, recipient_count.at) as entry (email, at)
    where recipient_count.key = outboxd.recipient_key(ruled.key) and entry.at > explain_limits.at - ruled.reach
  ) as mine on ruled.kind = 'recipient'
  left join lateral (
    select coalesce(sum(entry.n), 0)::integer as used
    from outboxd.window_count
    cross join lateral unnest(window_count.at, window_count.n) as entry (at, n)
    where window_count.kind = ruled.kind and window_count.key = ruled.key
      and entry.at > explain_limits.at - ruled.reach) as known on ruled.kind <> 'recipient'
)
select counted.place, counted.kind, counted.key, counted.used, counted.most, counted.per,
  not counted.moves and (counted.closed is not null or coalesce(over.excess > 0, false)),
  case
    when counted.closed is not null then case when counted.closed < '9999-01-01 utc' then counted.closed end
    when counted.moves or over.excess is null or over.excess <= 0 then null
    when counted.kind = 'recipient' then counted.reach + coalesce(
      outboxd.mailbox_free_at(outboxd.recipient_key(counted.key), explain_limits.id, explain_limits.at - counted.reach,
        counted.most), explain_limits.at)
    else counted.reach + coalesce(
      outboxd.window_free_at(counted.kind, counted.key, explain_limits.at - counted.reach, over.excess),
      explain_limits.at)
  end
from counted
cross join lateral (select counted.used + least(counted.units, counted.most) - counted.most as excess) as over
union all
select quota.place, quota.kind, quota.key, quota.used, quota.most, quota.per, quota.held, quota.free_at
from outboxd.explain_quota(explain_limits.queue, cardinality(explain_limits.recipients), explain_limits.at) as quota;
end
$$;
