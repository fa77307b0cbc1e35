-- End every lease now: who has them was served by another timeline.
update outboxd.lease set lease_until = clock_timestamp() where lease.lease_until > clock_timestamp()
