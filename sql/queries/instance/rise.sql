-- Note the new timeline after a promotion, since when it is known, and the newest email that the standby had.
update outboxd.instance
set timeline = %(timeline)s::integer, seen_at = clock_timestamp(),
  risen_at = coalesce(%(at)s::timestamptz, clock_timestamp()),
  risen_id = (select coalesce(max(email.id), 0) from outboxd.email)
