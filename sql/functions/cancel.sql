-- Take an email back. True: it is certain that it was not and will not be sent (it waited, or ended unsent).
-- False: it was sent, or may have been; or it is in a daemon's hands, in a batch, or was asked with an open answer. Then
-- a word is left and no further ask begins, but that of a batch with an open answer. A word said again is of now: after a
-- failover it matters when.
-- In the caller's transaction: a rollback takes the cancel back. Locks no lease, so settling never waits for it.
create or replace function outboxd.cancel(uid uuid) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  found_id bigint;
begin
  select email.id into found_id from outboxd.email where email.uid = cancel.uid;
  if not found then
    raise exception 'uid: there is no email with this uid' using errcode = '22023';
  end if;
  if outboxd.withdraw(found_id) then
    return true;
  end if;
  insert into outboxd.word (id, kind)
  select found_id, 'cancel'
  where not exists (select from outboxd.delivery where delivery.id = found_id)
    and not exists (select from outboxd.dead_letter where dead_letter.id = found_id)
  on conflict (id, kind) do update set at = clock_timestamp();
  return false;
end
$$;
