-- The provider said "too many requests": nobody asks before `after`, and not for 10 s at a second overrun in 60 s. Where
-- its figure does not `explain` that, the account is slowed down to nine tenths of what was let through: to a fifth and at
-- most nine tenths of its rate, six tenths at a second overrun, and where none was known to 10 at least; never below 1, since
-- from there it would hardly find back: a rate rises only where it is used. Refusals within 2 s of the first are one overrun;
-- if they were within 2 s of the last, a rate that is refused every second would never fall.
with fleet as materialized (
  select 0.9 * %(passed)s::float8 * greatest(1, count(*)) as taught
  from outboxd.worker
  where worker.beat_at > clock_timestamp() - interval '30 s'
)
insert into outboxd.account as known (name, next_at, overran_at)
values (%(name)s, clock_timestamp() + %(after)s::interval, clock_timestamp())
on conflict (name) do update
set next_at = greatest(known.next_at, clock_timestamp() + case
      when known.overran_at > clock_timestamp() - interval '60 s' and known.overran_at < clock_timestamp() - interval '2 s'
      then greatest(interval '10 s', %(after)s::interval)
      else %(after)s::interval end),
  adapted = case
      when %(explained)s::boolean or known.overran_at > clock_timestamp() - interval '2 s' then known.adapted
      when least(known.rate, known.adapted) is null then greatest(10, (select fleet.taught from fleet))
      else greatest(1, 0.2 * least(known.rate, known.adapted),
        least(
          case when known.overran_at > clock_timestamp() - interval '60 s' then 0.6 else 0.9 end
            * least(known.rate, known.adapted),
          (select fleet.taught from fleet))) end,
  overran_at = case
      when known.overran_at > clock_timestamp() - interval '2 s' then least(known.overran_at, clock_timestamp())
      else clock_timestamp() end
returning extract(epoch from known.next_at - clock_timestamp())::float8 as rest
