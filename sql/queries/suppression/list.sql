-- The newest suppressions that fit, at most `limit`; filters that are null match everything. An erased one has no
-- address, but is found by it.
select
  suppression.address, suppression.scope, suppression.reason, suppression.source, suppression.cause,
  suppression.expires_at, suppression.created_at, suppression.metadata
from outboxd.suppression
where (%(address)s::text is null or suppression.address_hash = outboxd.address_hash(%(address)s))
  and (%(scope)s::text is null or suppression.scope = %(scope)s)
  and (%(reason)s::text is null or suppression.reason = %(reason)s)
  and (%(source)s::text is null or suppression.source = %(source)s)
  and (%(expired)s or suppression.expires_at is null or suppression.expires_at > (select clock_timestamp()))
order by suppression.created_at desc
limit %(limit)s
