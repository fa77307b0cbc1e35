-- Where mail of each queue is that belongs to no lane and has its queue's priority; the most urgent first. Looked at
-- for mail more urgent than what is in hand, before any was ever seen there.
select queue.id, queue.priority
from outboxd.queue
order by queue.priority, queue.id
