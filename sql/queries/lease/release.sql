-- Remove an empty lease.
delete from outboxd.lease where lease.lease_id = %(lease_id)s::uuid and lease.ids = '{}'
