-- Note the new timeline after a promotion.
update outboxd.instance set timeline = %(timeline)s::integer, seen_at = clock_timestamp()
