-- When the month began that an instant is in, months beginning on this day (1 to 28) at 00:00 UTC.
create or replace function outboxd.month_start(instant timestamptz, day integer) returns timestamptz
language sql immutable parallel safe
return (date_trunc('month', (instant at time zone 'UTC') - make_interval(days => day - 1))
  + make_interval(days => day - 1)) at time zone 'UTC';
