-- Let the batches go that are held back.
update outboxd.batch
set due_at = (select clock_timestamp())
where batch.due_at >= %(until)s::timestamptz
