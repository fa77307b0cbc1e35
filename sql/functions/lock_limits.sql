-- Lock the counts of these keys until the end of the transaction, and make those that are missing. Mailboxes before
-- windows, each in the order of the keys, so that nobody waits in a circle. An existing row is locked and not written
-- (the condition is false). A new mailbox that only one email wants holds that email at once, stamped `begun_at`: the
-- usual grant is one write. A row that pruning takes away meanwhile is made again.
create or replace function outboxd.lock_limits(
  emails bigint[], mailbox_of integer[], hashes bytea[], mailbox_most integer[], mailbox_per interval[],
  kinds text[], keys text[], key_most integer[], key_per interval[], begun_at timestamptz)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if hashes <> '{}' then
    insert into outboxd.recipient_count as known (key, emails, at, per, stale_at)
    select given.key,
      case when count(*) = 1 and min(given.most) > 0 then array[lock_limits.emails[min(given.email)]] else '{}' end,
      case when count(*) = 1 and min(given.most) > 0 then array[begun_at] else '{}' end,
      max(given.per), date_bin('10 min', begun_at + max(given.per) + '20 min', 'epoch')
    from unnest(hashes, mailbox_of, mailbox_most, mailbox_per) as given (key, email, most, per)
    group by given.key
    order by given.key
    on conflict (key) do update set key = excluded.key where false;
  end if;
  if keys <> '{}' then
    insert into outboxd.window_count as known (kind, key, per, stale_at)
    select given.kind, given.key, given.per, date_bin('10 min', begun_at + given.per + '20 min', 'epoch')
    from unnest(kinds, keys, key_most, key_per) as given (kind, key, most, per)
    where given.most is not null
    order by given.kind, given.key
    on conflict (kind, key) do update set key = excluded.key where false;
  end if;
end
$$;
