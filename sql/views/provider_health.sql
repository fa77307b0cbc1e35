-- One row per mailbox provider that was granted something within a day or that has an override: what of its minute and
-- day is used, whether it is slowed or suspended and why, and how many other domains have their exchangers there.
create or replace view outboxd.provider_health as
select
  provider.name as provider,
  coalesce(slowed.rate_factor, 1) as rate_factor,
  case when slowed.suspended_until > clock_timestamp() then slowed.suspended_until end as suspended_until,
  slowed.reason,
  slowed.who,
  slowed.since,
  coalesce(minute.used, 0) as minute_used,
  minute.most as minute_most,
  coalesce(day.used, 0) as day_used,
  day.most as day_most,
  (select count(*) from outboxd.domain_mx where domain_mx.provider = provider.name)::integer as custom_domains
from (
  select limit_usage.key as name from outboxd.limit_usage where limit_usage.kind in ('provider_minute', 'provider_day')
  union
  select provider_override.provider from outboxd.provider_override
) as provider
left join outboxd.limit_usage as minute on minute.kind = 'provider_minute' and minute.key = provider.name
left join outboxd.limit_usage as day on day.kind = 'provider_day' and day.key = provider.name
left join outboxd.provider_override as slowed on slowed.provider = provider.name;
