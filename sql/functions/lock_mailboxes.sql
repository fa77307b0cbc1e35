-- Lock the counts of these mailboxes until the end of the transaction, in the order of their keys, and make those that
-- are missing. An existing row is locked and not written (the condition is false). A new one that only one email wants
-- holds that email at once, stamped `begun_at`: the usual grant is one write. A row that pruning takes away meanwhile is
-- made again. True where every mailbox is such a new one.
create or replace function outboxd.lock_mailboxes(
  emails bigint[], mailbox_of integer[], hashes bytea[], mailbox_most integer[], mailbox_per interval[],
  begun_at timestamptz)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  made integer;
begin
  insert into outboxd.recipient_count as known (key, emails, at, per, stale_at)
  select given.key,
    case when count(*) = 1 and min(given.most) > 0 then array[lock_mailboxes.emails[min(given.email)]] else '{}' end,
    case when count(*) = 1 and min(given.most) > 0 then array[begun_at] else '{}' end,
    max(given.per), date_bin('10 min', begun_at + max(given.per) + '20 min', 'epoch')
  from unnest(hashes, mailbox_of, mailbox_most, mailbox_per) as given (key, email, most, per)
  group by given.key
  order by given.key
  on conflict (key) do update set key = excluded.key where false;
  get diagnostics made = row_count;
  return made = cardinality(hashes) and (1 > any (mailbox_most)) is not true;  -- who is wanted twice is made once
end
$$;
