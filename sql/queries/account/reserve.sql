-- Reserve requests of an account for one daemon: `grants` of at most `wanted`, the first of which may leave after
-- `due_in` seconds. At most max(1, 0.1 s of the rate) at a time, paced at `share` of the provider's figure: in any t
-- seconds at most share × rate × t + that capacity leave. Instants are taken after the row's lock. No row: not known yet.
update outboxd.account
set next_at = greatest(account.next_at, clock_timestamp()
    - make_interval(secs => (greatest(1, 0.1 * account.rate) - 1) / (%(share)s::float8 * account.rate)))
  + make_interval(secs =>
    least(%(wanted)s::integer, greatest(1, floor(0.1 * account.rate))) / (%(share)s::float8 * account.rate))
where account.name = %(name)s and account.rate is not null
returning
  account.rate,
  least(%(wanted)s::integer, greatest(1, floor(0.1 * account.rate)))::integer as grants,
  (extract(epoch from account.next_at - clock_timestamp())
    - least(%(wanted)s::integer, greatest(1, floor(0.1 * account.rate))) / (%(share)s::float8 * account.rate)
  )::float8 as due_in
