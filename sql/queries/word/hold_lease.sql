-- Hold the lease that has this email now, so that its settle waits for the word and then reads it.
select lease.lease_id from outboxd.lease where %(id)s::bigint = any (lease.ids) for share
