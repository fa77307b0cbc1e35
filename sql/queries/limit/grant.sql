-- Ask every limit of each email, all or nothing; see outboxd.grant_limits. Waits for whoever asks for the same keys, in
-- the order of the keys. One row per email that is held, with what holds it and until when, and one for the first email:
-- the instant of a grant is the same for all.
select result.email, result.granted, result.kind, result.key, result.free_at, result.granted_at
from outboxd.grant_limits(
  %(emails)s::bigint[], %(granted_before)s::timestamptz[],
  %(mailbox_of)s::integer[], %(addresses)s::text[], %(mailbox_most)s::integer[], %(mailbox_per)s::interval[],
  %(kinds)s::text[], %(keys)s::text[], %(key_most)s::integer[], %(key_per)s::interval[], %(key_day)s::integer[],
  %(key_provider)s::text[], %(key_demand)s::integer[],
  %(share_of)s::integer[], %(share_key)s::integer[], %(share_units)s::integer[], %(share_spare)s::integer[],
  %(slack)s::interval, %(now)s::timestamptz, nullif(%(share_granted)s::integer[], '{}')) as result
where not result.granted or result.email = (%(emails)s::bigint[])[1]
