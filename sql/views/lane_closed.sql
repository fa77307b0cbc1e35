-- Until when limits keep each lane closed; the past, or null: it is open. A quota's lane is closed until the first account
-- has quota for its queue again of those that asked last, within a day of one another: any of them may take what waits there.
create or replace view outboxd.lane_closed as
select lane.id, lane.kind, lane.key,
  case when lane.kind = 'quota' then coalesce((
      select min(coalesce(mine.closed_until, '-infinity'))
      from outboxd.account
      left join outboxd.lane as mine
        on mine.kind = 'quota' and mine.key = account.name || '/' || regexp_replace(lane.key, '^.*/', '')
      where coalesce(account.drawn_at, '-infinity') >= coalesce(
        (select max(other.drawn_at) from outboxd.account as other) - interval '1 d', '-infinity')),
      lane.closed_until)
    else lane.closed_until end as until
from outboxd.lane;
