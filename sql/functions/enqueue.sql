-- Insert one email in the caller's transaction. A duplicate dedupe_key returns the email that holds it
-- (`duplicate` true) or, with on_duplicate => 'reject', raises 23505.
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
begin
  if enqueue.after is not null then
    raise exception 'after: is not supported yet' using errcode = '0A000', hint = 'Leave it out.';
  elsif enqueue.on_duplicate = 'replace' then
    raise exception 'on_duplicate: replace is not supported yet' using errcode = '0A000';
  elsif enqueue.on_duplicate is null or enqueue.on_duplicate not in ('ignore', 'reject') then
    raise exception 'on_duplicate: must be ignore or reject' using errcode = '22023';
  end if;

  if enqueue.dedupe_key is not null and enqueue.on_duplicate = 'ignore' then
    insert into outboxd.dedupe as held (tenant, key, id)
    values (coalesce(enqueue.tenant, ''), enqueue.dedupe_key, new_id)
    on conflict (tenant, key) do update set id = excluded.id where outboxd.released(held.id);
    if not found then
      return query
        select held.id, email.uid, true
        from outboxd.dedupe as held
        left join outboxd.email on email.id = held.id
        where held.tenant = coalesce(enqueue.tenant, '') and held.key = enqueue.dedupe_key;
      return;
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
