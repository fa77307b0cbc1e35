-- Take back shares that were not used; those of an email with an open ambiguity stay. Returns for how many emails.
select outboxd.give_back_limits(
  %(emails)s::bigint[], %(granted_before)s::timestamptz[], %(mailbox_of)s::integer[], %(addresses)s::text[],
  %(kinds)s::text[], %(keys)s::text[], %(share_of)s::integer[],
  %(share_key)s::integer[], %(share_units)s::integer[])
