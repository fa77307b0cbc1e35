-- How many suppressions that hold have no readable address, and so are in no export.
select count(*) as erased
from outboxd.suppression
where suppression.address is null
  and (suppression.expires_at is null or suppression.expires_at > (select clock_timestamp()))
  and (%(scope)s::text is null or suppression.scope = %(scope)s)
  and (%(reason)s::text is null or suppression.reason = %(reason)s)
