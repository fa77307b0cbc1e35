-- Take an email back. True: it is certain that it was not and will not be sent. False: it ended before, or it is in
-- a daemon's hands or was asked with an open answer; a word is left, and no further ask begins.
-- In the caller's transaction: a rollback takes the cancel back. Locks no lease, so settling never waits for it.
create or replace function outboxd.cancel(uid uuid) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  found_id bigint;
  asked boolean;
begin
  select email.id into found_id from outboxd.email where email.uid = cancel.uid;
  if not found then
    raise exception 'uid: there is no email with this uid' using errcode = '22023';
  end if;
  perform from outboxd.ready where ready.id = found_id for update;
  if found then
    select progress.ambiguous into asked from outboxd.progress where progress.id = found_id;
    if not coalesce(asked, false) then
      with gone as (
        delete from outboxd.ready where ready.id = found_id returning ready.queue
      ), forgotten as (
        delete from outboxd.progress where progress.id = found_id returning progress.attempts
      )
      insert into outboxd.delivery (id, state, queue, attempts)
      select found_id, 'cancelled', gone.queue, coalesce((select attempts from forgotten), 0)
      from gone;
      return true;
    end if;
  end if;
  if exists (select from outboxd.delivery where delivery.id = found_id) then
    return exists (select from outboxd.delivery where delivery.id = found_id and delivery.state <> 'sent');
  elsif exists (select from outboxd.dead_letter where dead_letter.id = found_id) then
    return exists (
      select from outboxd.dead_letter where dead_letter.id = found_id and dead_letter.certainty = 'not_accepted');
  end if;
  insert into outboxd.word (id, kind) values (found_id, 'cancel') on conflict do nothing;
  return false;
end
$$;
