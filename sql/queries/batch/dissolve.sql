-- Take batches apart whose members are all in this lease and stay there. Run after batch/hold.
with over as (
  delete from outboxd.batch
  where batch.batch_uid = any (%(replaced)s::uuid[])
    and exists (select from outboxd.lease where lease.lease_id = %(lease_id)s::uuid)
  returning batch.batch_uid
)
delete from outboxd.batch_member
where batch_member.batch_uid = any (array(select over.batch_uid from over))
