-- Note the new timeline after a promotion, and the newest email that the standby had.
update outboxd.instance
set timeline = %(timeline)s::integer, seen_at = clock_timestamp(), risen_at = clock_timestamp(),
  risen_id = (select coalesce(max(email.id), 0) from outboxd.email)
