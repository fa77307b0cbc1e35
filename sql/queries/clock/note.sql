-- Note that the server's clock was at `at` when by true time it was from `earliest` to `expected`, having been seen at
-- `seen_at`: by as much as it may have skipped. What others noted since then is taken off, an earlier step going by where
-- the later ones moved it; not what was noted before the clock went back, for which too little time has passed. No row:
-- the rest is within `tolerance`, or nothing.
with asked as (
  select %(at)s::timestamptz - (%(expected)s::timestamptz - %(seen_at)s::timestamptz) - %(tolerance)s::interval as since
), noted as (
  select clock_step.at, clock_step.ahead,
    clock_step.at + coalesce(sum(clock_step.ahead) over later, '0') as moved_at,
    lag(clock_step.at - clock_step.ahead) over (order by clock_step.at desc) as next_before
  from outboxd.clock_step
  where clock_step.at > %(seen_at)s::timestamptz
  window later as (order by clock_step.at desc rows between unbounded preceding and 1 preceding)
), judged as (
  select noted.ahead, noted.at > asked.since or bool_and(
    noted.moved_at > asked.since and coalesce(noted.next_before > noted.at - %(tolerance)s::interval, true)
  ) over (order by noted.at desc) as is_since
  from noted
  cross join asked
), known as (
  select coalesce(sum(judged.ahead) filter (where judged.is_since), '0') as ahead
  from judged
)
insert into outboxd.clock_step (at, ahead)
select %(at)s::timestamptz, %(at)s::timestamptz - %(earliest)s::timestamptz - known.ahead
from known
where %(at)s::timestamptz - %(expected)s::timestamptz - known.ahead > %(tolerance)s::interval
returning ahead
