-- One row per key that a window counts: how much of what is allowed was granted within it, by the database's clock.
-- `most` and `per` are those of the last grant. Mailboxes are counted by hash and are not shown.
create or replace view outboxd.limit_usage as
select
  known.kind,
  known.key,
  known.per,
  known.most,
  counted.used,
  round((counted.used::numeric / nullif(known.most, 0)), 3)::double precision as filled,
  known.at[cardinality(known.at)] as last_granted_at
from outboxd.window_count as known
cross join lateral (
  select coalesce(sum(entry.n), 0)::integer as used
  from unnest(known.at, known.n) as entry (at, n)
  where entry.at > clock_timestamp() - known.per) as counted
where counted.used > 0;
