-- No email goes to this address from the commit on: none at all, or none of one queue or type (`scope`), for ever or
-- until `expires_at`. True: something changed. False: it was suppressed already, as gravely and as long.
-- Raises 22023, without the value, for what is no address or reason.
create or replace function outboxd.suppress(
  address text, reason text, scope text default 'all', source text default 'sql', expires_at timestamptz default null,
  cause text default null, metadata jsonb default null)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  done record;
begin
  if outboxd.gravity(reason) is null then
    raise exception 'reason: is none of those known' using errcode = '22023',
      hint = 'One of hard_bounce, soft_bounce_persistent, spam_complaint, feedback_loop, unsubscribe, gdpr, fraud, admin.';
  elsif coalesce(scope, '') = '' or length(scope) > 100 then
    raise exception 'scope: must be all, or the name of a queue or type' using errcode = '22023';
  elsif coalesce(source, '') = '' or length(source) > 100 or length(cause) > 1000 then
    raise exception 'source: must have 1 to 100 characters, and cause at most 1,000' using errcode = '22023';
  elsif expires_at <= clock_timestamp() then
    raise exception 'expires_at: has passed already' using errcode = '22023', hint = 'Leave it out for ever.';
  elsif jsonb_typeof(metadata) <> 'object' or octet_length(metadata::text) > 4096 then
    raise exception 'metadata: must be an object of at most 4096 bytes' using errcode = '22023';
  end if;
  select many.added, many.changed, many.refused into done
  from outboxd.suppress_many(
    array[address], array[reason], array[scope], array[source], array[cause], array[expires_at], array[metadata]) as many;
  if done.refused <> '{}' then
    raise exception 'address: is not an address' using errcode = '22023', hint = 'Write name@domain, without a name.';
  end if;
  return done.added + done.changed > 0;
end
$$;
