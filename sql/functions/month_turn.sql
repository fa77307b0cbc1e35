-- From when on the month after the one that an instant is in is granted from: `longer` after it began.
create or replace function outboxd.month_turn(instant timestamptz, day integer, longer interval) returns timestamptz
language sql stable parallel safe
return outboxd.month_start(outboxd.month_start(instant, day) + interval '32 d', day) + longer;
