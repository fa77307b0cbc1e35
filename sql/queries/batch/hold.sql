-- Hold a lease while its batches are stored, so that its reclaim waits. No row: it is lost.
select lease.lease_id from outboxd.lease where lease.lease_id = %(lease_id)s::uuid for update
