-- Keep partitions ahead of the ids that applications take. Returns how many were made.
select outboxd.extend_partitions()
