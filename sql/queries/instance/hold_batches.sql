-- Hold back every batch that waits to be asked again; its due time says so.
update outboxd.batch
set due_at = %(until)s::timestamptz
where batch.due_at < %(until)s::timestamptz
