-- The queues that may use all of an account's quota.
select queue.name
from outboxd.queue
where queue.critical
