-- Let the batches go that are held back. Whoever cancels some of a batch's members after a failover has seen what the
-- provider accepted, and a batch is accepted whole: its open answer is no more, so that it is taken apart, and the others
-- go anew. What was cancelled before the failover says nothing about that.
update outboxd.batch
set due_at = (select clock_timestamp()),
  ambiguous = batch.ambiguous and not exists (
    select
    from outboxd.batch_member
    join outboxd.word on word.id = batch_member.id and word.kind = 'cancel'
    where batch_member.batch_uid = batch.batch_uid and word.at > (select instance.risen_at from outboxd.instance))
where batch.due_at >= %(until)s::timestamptz
