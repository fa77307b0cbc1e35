-- Insert one email in the caller's transaction. A duplicate dedupe_key returns the email that holds it
-- (`duplicate` true); with on_duplicate => 'reject' it raises 23505, with 'replace' the waiting email is cancelled
-- and this one inserted. Replace inserts only where it is certain that the old one does not go: never both, and
-- never neither, because an email that cannot be taken back is left as it is, without a word.
create or replace function outboxd.enqueue(
  payload jsonb,
  type text,
  queue text default null,
  dedupe_key text default null,
  on_duplicate text default 'ignore',
  scheduled_at timestamptz default null,
  expires_at timestamptz default null,
  priority smallint default null,
  max_attempts smallint default null,
  guard text default null,
  after jsonb default null,
  campaign text default null,
  tenant text default null,
  trace jsonb default null
) returns table (id bigint, uid uuid, duplicate boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  new_id bigint := nextval('outboxd.email_id_seq');
  old_id bigint;
begin
  if enqueue.after is not null then
    raise exception 'after: is not supported yet' using errcode = '0A000', hint = 'Leave it out.';
  elsif enqueue.on_duplicate is null or enqueue.on_duplicate not in ('ignore', 'reject', 'replace') then
    raise exception 'on_duplicate: must be ignore, reject or replace' using errcode = '22023';
  end if;

  if enqueue.dedupe_key is not null and enqueue.on_duplicate in ('ignore', 'replace') then
    insert into outboxd.dedupe as held (tenant, key, id)
    values (coalesce(enqueue.tenant, ''), enqueue.dedupe_key, new_id)
    on conflict (tenant, key) do update set id = excluded.id where outboxd.released(held.id);
    if not found then  -- the conflicting row is locked all the same, so its id is final until we end
      select held.id into old_id
      from outboxd.dedupe as held
      where held.tenant = coalesce(enqueue.tenant, '') and held.key = enqueue.dedupe_key;
      if enqueue.on_duplicate = 'ignore' or not outboxd.withdraw(old_id) then
        return query select old_id, (select email.uid from outboxd.email where email.id = old_id), true;
        return;
      end if;
      update outboxd.dedupe as held
      set id = new_id
      where held.tenant = coalesce(enqueue.tenant, '') and held.key = enqueue.dedupe_key;
    end if;
  end if;

  return query
    insert into outboxd.email (
      id, type, payload, queue, dedupe_key, scheduled_at, expires_at, priority, max_attempts, guard, campaign,
      tenant, trace)
    overriding system value
    values (
      new_id, enqueue.type, enqueue.payload, enqueue.queue, enqueue.dedupe_key, enqueue.scheduled_at,
      enqueue.expires_at, enqueue.priority, enqueue.max_attempts, enqueue.guard, enqueue.campaign,
      enqueue.tenant, enqueue.trace)
    returning email.id, email.uid, false;
end
$$;
