-- Note about once a minute that a daemon is here.
update outboxd.instance
set seen_at = clock_timestamp()
where instance.seen_at < clock_timestamp() - interval '1 min'
