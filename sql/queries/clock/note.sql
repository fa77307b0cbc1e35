-- Note that the server's clock was at `at` when by true time it should have been at `expected`, having been seen at
-- `seen_at`. What others noted since then is taken off. No row: the rest is within `tolerance`, or nothing.
with known as (
  select %(at)s::timestamptz - %(expected)s::timestamptz - coalesce(sum(clock_step.ahead), interval '0') as ahead
  from outboxd.clock_step
  where clock_step.at > %(seen_at)s::timestamptz
)
insert into outboxd.clock_step (at, ahead)
select %(at)s::timestamptz, known.ahead
from known
where known.ahead > %(tolerance)s::interval
returning ahead
