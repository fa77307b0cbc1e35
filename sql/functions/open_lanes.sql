-- After a change of limits, or of which queues are critical: what waits in lanes that limits closed is asked about anew,
-- and what is still over a limit closes them again. Lanes of pauses are closed by their pause and stay so.
create or replace function outboxd.open_lanes() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update outboxd.lane set closed_until = null where lane.closed_until > clock_timestamp();
  if found then
    perform pg_notify('outboxd', '');
  end if;
  return null;
end
$$;

create or replace trigger open_lanes
after insert or update or delete or truncate on outboxd.limit_rule
for each statement execute function outboxd.open_lanes();

create or replace trigger open_lanes
after update of critical on outboxd.queue
for each statement execute function outboxd.open_lanes();
