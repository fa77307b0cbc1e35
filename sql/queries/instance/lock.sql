-- Hold the record, so that of several daemons that see the timeline rise one acts.
select instance.timeline, instance.seen_at from outboxd.instance for update
