-- Note that the server's clock was at `at` when by true time it was from `earliest` to `expected`, having been seen at
-- `seen_at`: by as much as it may have skipped. What others noted since then is taken off; not what was noted before the
-- clock went back, for which too little time has passed. No row: the rest is within `tolerance`, or nothing.
with known as (
  select coalesce(sum(clock_step.ahead), interval '0') as ahead
  from outboxd.clock_step
  where clock_step.at > %(seen_at)s::timestamptz
    and clock_step.at > %(at)s::timestamptz - (%(expected)s::timestamptz - %(seen_at)s::timestamptz) - %(tolerance)s::interval
)
insert into outboxd.clock_step (at, ahead)
select %(at)s::timestamptz, %(at)s::timestamptz - %(earliest)s::timestamptz - known.ahead
from known
where %(at)s::timestamptz - %(expected)s::timestamptz - known.ahead > %(tolerance)s::interval
returning ahead
