-- Which recipients of these emails (up to 1,000 ids) are suppressed now, for the email's queue and type, and the gravest
-- reason why. Takes no locks and writes nothing. What is not in the answer may go. The instant is a column: a sub-select
-- among the arguments would keep the planner from taking the function in.
with instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
)
select email.id, found.address, found.reason, found.scope
from unnest(%(ids)s::bigint[]) as given (id)
cross join instant
join outboxd.email on email.id = given.id
cross join lateral outboxd.unwanted(email.recipients, email.queue, email.type, instant.now) as found
