-- Move what windows were granted before `until` ahead with the clock, where it still counted at `expected`. Locks in the
-- order of grant_limits.
with counting as materialized (
  select known.kind, known.key
  from outboxd.window_count as known
  where known.at[cardinality(known.at)] > %(expected)s::timestamptz - known.per - %(slack)s::interval
  order by known.kind, known.key
  for update
)
update outboxd.window_count as known
set (at, n) = (
    select array_agg(moved.at order by moved.at), array_agg(moved.n order by moved.at)
    from (
      select entry.n,
        case when entry.at <= %(until)s::timestamptz then entry.at + %(ahead)s::interval else entry.at end as at
      from unnest(known.at, known.n) as entry (at, n)) as moved),
  stale_at = known.stale_at + %(ahead)s::interval
from counting
where known.kind = counting.kind and known.key = counting.key
