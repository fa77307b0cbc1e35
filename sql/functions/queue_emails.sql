-- After an INSERT into outboxd.email: claim the dedupe keys, write the ready rows, ring the doorbell. What has a lane
-- goes there at once. Creates no shared row; keys go in order, so bulk inserts cannot deadlock. The bell: while a daemon
-- is awake its key is free and taking it shared costs nothing; while one sleeps it holds the key, and only then NOTIFY is paid.
-- `set local outboxd.doorbell = 'off'` skips the bell (two-phase commit refuses NOTIFY); the poll finds the email.
create or replace function outboxd.queue_emails() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted bigint;
  got bigint;
begin
  select count(*) into wanted from added where dedupe_key is not null;
  if wanted > 0 then
    insert into outboxd.dedupe as held (tenant, key, id)
    select tenant, dedupe_key, id from added where dedupe_key is not null order by tenant, dedupe_key
    on conflict (tenant, key) do update set id = excluded.id
    where held.id = excluded.id or outboxd.released(held.id);
    get diagnostics got = row_count;
    if got < wanted then
      raise exception 'dedupe_key: another email holds it'
        using errcode = '23505', constraint = 'dedupe_pkey', schema = 'outboxd', table = 'dedupe',
        hint = 'outboxd.enqueue(…, on_duplicate => ''ignore'') returns the email that holds the key.';
    end if;
  end if;

  insert into outboxd.ready (id, queue, lane, priority, scheduled_at)
  select added.id, queue.id,
    case when exists (select from outboxd.lane)
      then outboxd.lane_of(added.queue, added.type, added.campaign, added.tenant, added.recipients[1]) else 0 end,
    added.priority, greatest(added.scheduled_at, clock_timestamp())
  from added
  join outboxd.queue on queue.name = added.queue;

  if current_setting('outboxd.doorbell', true) is distinct from 'off'
    and not pg_try_advisory_xact_lock_shared(7101, 1)
  then
    perform pg_notify('outboxd', '');
  end if;
  return null;
end
$$;

create or replace trigger queue_emails
after insert on outboxd.email
referencing new table as added
for each statement execute function outboxd.queue_emails();
