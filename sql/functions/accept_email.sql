-- Before each row of an INSERT into outboxd.email: fill what was left out, refuse what could never be sent.
-- Reads policy without locks and writes nothing else, so applications never wait for each other here. Few
-- expressions on the usual way: PL/pgSQL sets each up anew in every transaction.
create or replace function outboxd.accept_email() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  select
    queue.name, coalesce(new.priority, queue.priority), coalesce(new.scheduled_at, clock_timestamp()),
    coalesce(new.tenant, '')
  into new.queue, new.priority, new.scheduled_at, new.tenant
  from outboxd.queue
  where queue.name = coalesce(
    new.queue, (select kind.queue from outboxd.email_type as kind where kind.name = new.type), 'transactional');
  if not found then
    raise exception 'queue: there is no queue of this name'
      using errcode = '22023', hint = 'Queues are the rows of outboxd.queue; leave it out for the type''s own.';
  end if;
  new.recipients := coalesce(outboxd.check_plain(new.payload), outboxd.check_payload(new.payload));

  -- Most rows end here. What follows says what is wrong with the others, or finds nothing wrong.
  if new.type ~ '^[^[:cntrl:]]{1,100}$' and new.priority between 1 and 100
    and new.max_attempts is null and new.expires_at is null and new.dedupe_key is null and new.tenant = ''
    and new.trace is null and new.guard is null and new.campaign is null
    and new.scheduled_at > '-infinity' and new.scheduled_at <= clock_timestamp() + interval '1 year'
  then
    return new;
  end if;
  if new.type is null or new.type = '' or length(new.type) > 100 or new.type ~ '[[:cntrl:]]' then
    raise exception 'type: must be 1 to 100 characters without control characters' using errcode = '22023';
  end if;
  if new.priority not between 1 and 100 then
    raise exception 'priority: must be between 1 (first) and 100 (last)' using errcode = '22023';
  end if;
  if new.max_attempts not between 1 and 100 then
    raise exception 'max_attempts: must be between 1 and 100' using errcode = '22023';
  end if;
  if not isfinite(new.scheduled_at) or new.scheduled_at > clock_timestamp() + interval '1 year' then
    raise exception 'scheduled_at: must be finite and at most a year ahead' using errcode = '22023';
  end if;
  if new.expires_at is not null then
    if not isfinite(new.expires_at) or new.expires_at > clock_timestamp() + interval '1 year' then
      raise exception 'expires_at: must be finite and at most a year ahead' using errcode = '22023';
    elsif new.expires_at <= new.scheduled_at and new.scheduled_at > clock_timestamp() then
      raise exception 'expires_at: lies before scheduled_at, so the email could never be sent' using errcode = '22023';
    end if;
  end if;
  if new.dedupe_key = '' or length(new.dedupe_key) > 500 then
    raise exception 'dedupe_key: must be 1 to 500 characters' using errcode = '22023';
  end if;
  if length(new.tenant) > 100 then
    raise exception 'tenant: must be at most 100 characters' using errcode = '22023';
  end if;
  if new.trace is not null and (jsonb_typeof(new.trace) <> 'object' or octet_length(new.trace::text) > 4096) then
    raise exception 'trace: must be an object of at most 4096 bytes' using errcode = '22023';
  end if;
  if new.guard is not null then
    raise exception 'guard: is not supported yet' using errcode = '0A000', hint = 'Leave it out.';
  end if;
  if new.campaign = '' or length(new.campaign) > 100 or new.campaign ~ '[[:cntrl:]]' then
    raise exception 'campaign: must be 1 to 100 characters without control characters' using errcode = '22023';
  end if;
  return new;
end
$$;

create or replace trigger accept_email
before insert on outboxd.email
for each row execute function outboxd.accept_email();
