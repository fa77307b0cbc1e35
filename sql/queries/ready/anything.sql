-- Whether anything waits at all, alone or in a batch, or is closed. By the index: the heap of a table that is empty may be
-- large.
select exists (
    select
    from (
      select ready.queue
      from outboxd.ready
      order by ready.queue, ready.lane, ready.priority, ready.scheduled_at
      limit 1) as first)
  or exists (select from outboxd.batch)
  or exists (select from outboxd.pause)
  or exists (select from outboxd.breaker where breaker.state <> 'closed') as anything
