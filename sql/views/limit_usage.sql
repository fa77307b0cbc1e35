-- One row per key that a window counts: how much of what is allowed was granted within it, by the database's clock.
-- `most` and `per` are those of the last grant; an account's month counts from its beginning. Mailboxes are counted by
-- hash and are not shown.
create or replace view outboxd.limit_usage as
select
  known.kind,
  known.key,
  case when known.kind = 'account_month' then interval '1 mon' else known.per end as per,
  known.most,
  counted.used,
  round((counted.used::numeric / nullif(known.most, 0)), 3)::double precision as filled,
  known.at[cardinality(known.at)] as last_granted_at
from outboxd.window_count as known
cross join lateral (
  select case when known.kind <> 'account_month' then clock_timestamp() - make_interval(secs => extract(epoch from known.per)::float8)
    else outboxd.month_start(clock_timestamp(), coalesce((
      select (limit_rule.options ->> 'starts_on')::integer
      from outboxd.limit_rule
      where limit_rule.kind = 'account_month' and (limit_rule.key is null or limit_rule.key = known.key)
      order by limit_rule.key is null
      limit 1), 1)) end as counts_from) as reach
cross join lateral (
  select coalesce(sum(entry.n), 0)::integer as used
  from unnest(known.at, known.n) as entry (at, n)
  where entry.at > reach.counts_from) as counted
where counted.used > 0;
