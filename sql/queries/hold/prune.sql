-- Remove the oldest times that are past `keep`, at most `limit` of them.
delete from outboxd.hold
where hold.ctid = any (array(
  select old.ctid
  from outboxd.hold as old
  where old.until < (select coalesce(%(now)s::timestamptz, clock_timestamp())) - %(keep)s::interval
  order by old.until
  limit %(limit)s::integer
  for update skip locked))
