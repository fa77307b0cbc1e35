-- Reserve requests of an account for one daemon: `grants` of at most `wanted`, which may leave after `due_in` seconds, when
-- the last of them may. At most max(1, 0.1 s of the rate) at a time, paced at the policy's share of it (else `share`): in
-- any t seconds at most share × rate × t + that capacity leave. Instants are taken after the row's lock. No row: unlimited.
-- Where the clock went back since the last one, what is reserved goes back with it: nobody waits until it is there again.
with paced as materialized (
  select coalesce((
    select (limit_rule.options ->> 'pace')::float8
    from outboxd.limit_rule
    where limit_rule.kind = 'account' and (limit_rule.key is null or limit_rule.key = %(name)s)
    order by limit_rule.key is null
    limit 1), %(share)s::float8) as share
)
update outboxd.account
set next_at = greatest(
    account.next_at - greatest(interval '0', coalesce(account.drawn_at - clock_timestamp(), interval '0')),
    clock_timestamp() - make_interval(
      secs => (greatest(1, 0.1 * least(account.rate, account.adapted)) - 1) / (paced.share * least(account.rate, account.adapted))))
  + make_interval(secs => least(%(wanted)s::integer, greatest(1, floor(0.1 * least(account.rate, account.adapted))))
    / (paced.share * least(account.rate, account.adapted))),
  drawn_at = clock_timestamp()
from paced
where account.name = %(name)s and least(account.rate, account.adapted) is not null
returning
  account.rate,
  account.adapted,
  least(%(wanted)s::integer, greatest(1, floor(0.1 * least(account.rate, account.adapted))))::integer as grants,
  (extract(epoch from account.next_at - clock_timestamp())
    - 1 / (paced.share * least(account.rate, account.adapted)))::float8 as due_in
