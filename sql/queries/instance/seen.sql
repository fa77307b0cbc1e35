-- Note about once a minute that a daemon is here: a standby that is promoted knows by it until when its primary lived.
update outboxd.instance
set seen_at = clock_timestamp()
where instance.seen_at < clock_timestamp() - interval '1 min'
