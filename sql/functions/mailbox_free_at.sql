-- The instant of the grant to another email that must leave the window before a mailbox has room again, where at most
-- `most` may stay; null where the emails of the same statement fill it. Called only for what is refused.
create or replace function outboxd.mailbox_free_at(hash bytea, email bigint, counts_from timestamptz, most integer)
returns timestamptz
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select entry.at
    from outboxd.recipient_count as known
    cross join lateral unnest(known.emails, known.at) as entry (email, at)
    where known.key = mailbox_free_at.hash and entry.at >= counts_from and entry.email <> mailbox_free_at.email
      and most >= 1
    order by entry.at desc
    offset greatest(most - 1, 0)
    limit 1);
end
$$;
