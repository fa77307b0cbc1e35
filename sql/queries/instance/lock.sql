-- Hold the record, so that of several daemons that see the timeline rise one acts.
select instance.timeline from outboxd.instance for update
