-- Remove the oldest buckets of the latency histogram that are past their time, at most `limit` of them.
delete from outboxd.latency_bucket
where latency_bucket.ctid = any (array(
  select old.ctid
  from outboxd.latency_bucket as old
  where old.minute < (select coalesce(%(now)s::timestamptz, clock_timestamp())) - %(keep)s::interval
  order by old.minute
  limit %(limit)s::integer
  for update skip locked))
