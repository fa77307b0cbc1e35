-- Until when nothing is granted, because the turn of the month is so near that the provider may count for the other
-- month; null else.
create or replace function outboxd.month_turning(instant timestamptz, day integer, longer interval) returns timestamptz
language sql stable parallel safe
return case when outboxd.month_start(instant + longer, day) > outboxd.month_start(instant - longer, day)
  then outboxd.month_start(instant + longer, day) + longer end;
