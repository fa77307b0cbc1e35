-- Remove counts whose last grant left its window, and answers of DNS that nobody asked for again in a week; at most
-- `limit` of each. One daemon at a time is elected; what a grant has locked is skipped. Returns how many went.
with elected as materialized (
  select pg_try_advisory_xact_lock(7101, 3) as mine
), instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
), mailbox as (
  delete from outboxd.recipient_count
  where recipient_count.ctid = any (array(
    select stale.ctid
    from outboxd.recipient_count as stale
    where stale.stale_at < (select instant.now from instant) and (select elected.mine from elected)
    order by stale.stale_at
    limit %(limit)s::integer
    for update skip locked))
  returning 1
), counted as (
  delete from outboxd.window_count
  where window_count.ctid = any (array(
    select stale.ctid
    from outboxd.window_count as stale
    where stale.stale_at < (select instant.now from instant) and (select elected.mine from elected)
    order by stale.stale_at
    limit %(limit)s::integer
    for update skip locked))
  returning 1
), domain as (
  delete from outboxd.domain_mx
  where domain_mx.ctid = any (array(
    select stale.ctid
    from outboxd.domain_mx as stale
    where stale.expires_at < (select instant.now from instant) - interval '7 d' and (select elected.mine from elected)
    order by stale.expires_at
    limit %(limit)s::integer
    for update skip locked))
  returning 1
)
select (select count(*) from mailbox) + (select count(*) from counted) + (select count(*) from domain)
