-- What ended per minute and queue, from the tally of minutes: bound `minute`, and the cost is that of the answer.
create or replace view outboxd.throughput as
select queue.name as queue, tally.minute, tally.sent, tally.failed
from outboxd.tally
join outboxd.queue on queue.id = tally.queue;
