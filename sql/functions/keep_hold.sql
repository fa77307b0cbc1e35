-- A pause or an opening of a breaker that is over leaves its time in `hold`, whoever ended it, in the same transaction.
-- Daemons are woken, whoever ended it: nothing that it held is waited for by the clock.
create or replace function outboxd.keep_hold() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  over timestamptz := clock_timestamp();
begin
  if tg_table_name = 'breaker' then
    insert into outboxd.hold (kind, key, reason, detail, since, until)
    select 'breaker', old.account, 'provider_ill', old.cause, old.opened_at, over
    where over > old.opened_at;
  else
    insert into outboxd.hold (kind, key, reason, detail, since, until)
    select old.kind, old.key, old.reason, old.detail, old.since, least(old.until, over)
    where least(old.until, over) > old.since;
  end if;
  perform pg_notify('outboxd', '');
  return null;
end
$$;

create or replace trigger keep_hold
after update on outboxd.breaker
for each row when (old.state <> 'closed' and new.state = 'closed') execute function outboxd.keep_hold();

create or replace trigger keep_hold
after delete on outboxd.pause
for each row execute function outboxd.keep_hold();

create or replace trigger keep_hold_of_replaced
after update on outboxd.pause
for each row when (old.since <> new.since) execute function outboxd.keep_hold();
