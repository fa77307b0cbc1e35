-- Raise an account's adapted rate by a thirtieth, to 1 at least, once a second by one daemon of all, where it was used up and
-- no overrun began for a minute; null once it is the named one. Returns the rate that is named and the adapted one.
with elected as materialized (
  select pg_try_advisory_xact_lock(7101, 4) as mine
), raised as (
  update outboxd.account
  set adapted = case when greatest(1, 1.03 * account.adapted) < coalesce(account.rate, 10000)
      then greatest(1, 1.03 * account.adapted) end,
    adapted_at = clock_timestamp()
  where account.name = %(name)s and account.adapted is not null and account.next_at > clock_timestamp()
    and account.overran_at < clock_timestamp() - interval '60 s'
    and coalesce(account.adapted_at < clock_timestamp() - interval '0.9 s', true)
    and (select elected.mine from elected)
  returning account.rate, account.adapted
)
select raised.rate, raised.adapted
from raised
union all
select account.rate, account.adapted
from outboxd.account
where account.name = %(name)s and not exists (select from raised)
