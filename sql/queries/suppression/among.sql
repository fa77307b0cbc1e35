-- Which recipients of these emails (up to 1,000 ids) are suppressed now, for the email's queue and type, and the gravest
-- reason why. Takes no locks and writes nothing. What is not in the answer may go.
select email.id, found.address, found.reason, found.scope
from unnest(%(ids)s::bigint[]) as given (id)
join outboxd.email on email.id = given.id
cross join lateral outboxd.unwanted(email.recipients, email.queue, email.type,
  (select coalesce(%(now)s::timestamptz, clock_timestamp()))) as found
