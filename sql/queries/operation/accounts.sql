-- The provider accounts that a daemon used or somebody paused: pace, pause, breaker. Few rows.
select
  known.name as account, account.rate, account.adapted,
  (select format('%%s of %%s', day.used, day.most) from outboxd.limit_usage as day
   where day.kind = 'account_day' and day.key = known.name) as day,
  (select format('%%s of %%s', month.used, month.most) from outboxd.limit_usage as month
   where month.kind = 'account_month' and month.key = known.name) as month,
  coalesce(breaker_status.state, 'closed') as breaker, breaker_status.failures,
  breaker_status.cause, breaker_status.probe_at,
  (select string_agg(pauses.reason, '; ') from outboxd.pauses where pauses.kind = 'account' and pauses.key = known.name)
    as paused,
  (select string_agg(format('%%s: %%s', pauses.key, pauses.reason), '; ' order by pauses.key)
   from outboxd.pauses
   where pauses.kind = 'domain') as paused_domains
from (
  select account.name from outboxd.account
  union
  select breaker_status.account from outboxd.breaker_status
  union
  select pauses.key from outboxd.pauses where pauses.kind = 'account') as known
left join outboxd.account on account.name = known.name
left join outboxd.breaker_status on breaker_status.account = known.name
order by known.name
