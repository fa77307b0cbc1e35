-- Move what mailboxes were granted before `until` ahead with the clock, where it still counted at `expected`. Locks in the
-- order of grant_limits.
with counting as materialized (
  select known.key
  from outboxd.recipient_count as known
  where known.at[cardinality(known.at)] > %(expected)s::timestamptz - known.per - %(slack)s::interval
  order by known.key
  for update
)
update outboxd.recipient_count as known
set (emails, at) = (
    select array_agg(moved.email order by moved.at), array_agg(moved.at order by moved.at)
    from (
      select entry.email,
        case when entry.at <= %(until)s::timestamptz then entry.at + %(ahead)s::interval else entry.at end as at
      from unnest(known.emails, known.at) as entry (email, at)) as moved),
  stale_at = known.stale_at + %(ahead)s::interval
from counting
where known.key = counting.key
