-- Which recipients of these emails (up to 1,000 ids) are suppressed now, for the email's queue and type, and the gravest
-- reason why. One descent of the key per recipient, whatever the size of the list. Takes no locks and writes nothing.
-- What is not in the answer may go. The scope is compared in a way that no index serves: it would be three descents.
with instant as materialized (
  select coalesce(%(now)s::timestamptz, clock_timestamp()) as now
)
select email.id, mailbox.address, found.reason, found.scope
from unnest(%(ids)s::bigint[]) as given (id)
cross join instant
cross join outboxd.secret
join outboxd.email on email.id = given.id
cross join lateral unnest(email.recipients) as mailbox (address)
cross join lateral (
  select suppression.reason, suppression.scope
  from outboxd.suppression
  where suppression.address_hash = outboxd.keyed_hash(mailbox.address, secret.inner_pad, secret.outer_pad)
    and array_position(array['all', email.queue, email.type], suppression.scope) is not null
    and (suppression.expires_at is null or suppression.expires_at > instant.now)
  order by outboxd.gravity(suppression.reason), suppression.scope
  limit 1) as found
