-- Note about once a minute that a daemon is here, for daemons of an earlier release beside this one: after a failover they
-- hold back what fell due since.
update outboxd.instance
set seen_at = clock_timestamp()
where instance.seen_at < clock_timestamp() - interval '1 min'
