-- Write what was decided of a breaker. Run after breaker/lock, in its transaction.
update outboxd.breaker
set state = %(state)s, failed_at = %(failed_at)s::timestamptz[], opened_at = %(opened_at)s, probe_at = %(probe_at)s,
  cause = %(cause)s, probes = %(probes)s
where breaker.account = %(account)s
