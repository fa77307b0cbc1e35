-- Wake the daemons that sleep.
select pg_notify('outboxd', '')
