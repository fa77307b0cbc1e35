-- Hold one account's breaker until the transaction ends, made if it is not there, with the instant after its lock.
insert into outboxd.breaker as known (account) values (%(account)s)
on conflict (account) do update set account = known.account
returning coalesce(%(now)s::timestamptz, clock_timestamp()), known.state, known.failed_at, known.opened_at,
  known.probe_at, known.cause, known.probes, known.threshold, known.span, known.open_for
