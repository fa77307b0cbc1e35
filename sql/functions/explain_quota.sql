-- The daily and monthly quota that an email of this queue is under, as explain_limits has them: `most` is what its queue
-- may use. Which account will ask is the daemons' to know: of each kind the row of the account that frees first; it holds
-- nothing where an account has no quota of its kind.
create or replace function outboxd.explain_quota(queue text, units integer, at timestamptz)
returns table (place bigint, kind text, key text, used integer, most integer, per interval, held boolean, free_at timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  longer constant interval := '1.005 s';
begin
return query
with asked as (
  select kinds.place, kinds.kind, account.name as key, rule.per,
    case when kinds.kind = 'account_month' then coalesce((rule.options ->> 'starts_on')::integer, 1) end as day,
    case when exists (select from outboxd.queue where queue.name = explain_quota.queue and queue.critical) then rule.most
      else ceil(rule.most * (1 - (rule.options ->> 'critical_share')::numeric))::integer end as most
  from outboxd.account
  cross join (values (500::bigint, 'account_day'), (501, 'account_month')) as kinds (place, kind)
  left join lateral (
    select limit_rule.most, limit_rule.per, limit_rule.options
    from outboxd.limit_rule
    where limit_rule.kind = kinds.kind and (limit_rule.key is null or limit_rule.key = account.name)
    order by limit_rule.key is null
    limit 1) as rule on true
), ruled as (
  select asked.place, asked.kind, asked.key, asked.per, asked.day, asked.most from asked where asked.most is not null
), reach as (
  select ruled.place, ruled.kind, ruled.key, ruled.most,
    case when ruled.day is null then ruled.per else interval '1 mon' end as per,
    case when ruled.day is null then explain_quota.at - ruled.per - longer
      else outboxd.month_start(explain_quota.at, ruled.day) end as counts_from,
    outboxd.month_turn(explain_quota.at, ruled.day, longer) as turns_at,
    outboxd.month_turning(explain_quota.at, ruled.day, longer) as closed
  from ruled
), counted as (
  select reach.place, reach.kind, reach.key, reach.most, reach.per, reach.counts_from, reach.turns_at, reach.closed,
    known.used, known.used + least(explain_quota.units, reach.most) - reach.most as excess
  from reach
  cross join lateral (
    select coalesce(sum(entry.n), 0)::integer as used
    from outboxd.window_count
    cross join lateral unnest(window_count.at, window_count.n) as entry (at, n)
    where window_count.kind = reach.kind and window_count.key = reach.key and entry.at > reach.counts_from) as known
)
select distinct on (counted.kind) counted.place, counted.kind, counted.key, counted.used, counted.most, counted.per,
  said.free_at is not null, said.free_at
from counted
cross join lateral (
  select case when counted.kind <> all (array(select asked.kind from asked where asked.most is null)) then
    coalesce(counted.closed, case when counted.excess > 0 then coalesce(
    counted.turns_at,
    counted.per + longer + coalesce(
      outboxd.window_free_at(counted.kind, counted.key, counted.counts_from, counted.excess), explain_quota.at)) end) end
    as free_at) as said
order by counted.kind, said.free_at nulls first;
end
$$;
