-- Take a waiting email back without leaving a word. True: it is certain that it was not and will not be sent.
-- False: it was sent, or may have been, or is in a daemon's hands; nothing was changed. In the caller's transaction;
-- holds its row in ready until the end, and locks no lease.
create or replace function outboxd.withdraw(id bigint) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform from outboxd.ready where ready.id = withdraw.id for update;
  if found and not exists (
    select from outboxd.progress where progress.id = withdraw.id and progress.ambiguous)
    and not exists (select from outboxd.word where word.id = withdraw.id and word.kind = 'accepted')
  then
    with gone as (
      delete from outboxd.ready where ready.id = withdraw.id returning ready.queue
    ), forgotten as (
      delete from outboxd.progress where progress.id = withdraw.id returning progress.attempts
    )
    insert into outboxd.delivery (id, state, queue, attempts)
    select withdraw.id, 'cancelled', gone.queue, coalesce((select attempts from forgotten), 0)
    from gone;
    return true;
  end if;
  return exists (
      select from outboxd.delivery where delivery.id = withdraw.id and delivery.state <> 'sent')
    or exists (
      select from outboxd.dead_letter where dead_letter.id = withdraw.id and dead_letter.certainty = 'not_accepted');
end
$$;
