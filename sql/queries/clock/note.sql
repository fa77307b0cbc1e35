-- Note that the server's clock was at `at` when by true time it was from `earliest` to `expected`, having been seen at
-- `seen_at`: by as much as it may have skipped. What others noted since then is taken off. No row: the rest is within
-- `tolerance`, or nothing.
with known as (
  select coalesce(sum(clock_step.ahead), interval '0') as ahead
  from outboxd.clock_step
  where clock_step.at > %(seen_at)s::timestamptz
)
insert into outboxd.clock_step (at, ahead)
select %(at)s::timestamptz, %(at)s::timestamptz - %(earliest)s::timestamptz - known.ahead
from known
where %(at)s::timestamptz - %(expected)s::timestamptz - known.ahead > %(tolerance)s::interval
returning ahead
