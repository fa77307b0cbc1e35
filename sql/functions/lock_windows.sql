-- Lock the counts of these keys until the end of the transaction, in the order of the columns, which are of the collation
-- C, and make those that are missing. An existing row is locked and not written (the condition is false). Asked after
-- lock_mailboxes, so that nobody waits in a circle. A row that pruning takes away meanwhile is made again.
create or replace function outboxd.lock_windows(
  kinds text[], keys text[], key_most integer[], key_per interval[], begun_at timestamptz)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into outboxd.window_count as known (kind, key, per, stale_at)
  select given.kind, given.key, given.per, date_bin('10 min', begun_at + given.per + '20 min', 'epoch')
  from unnest(kinds, keys, key_most, key_per) as given (kind, key, most, per)
  where given.most is not null
  order by given.kind collate "C", given.key collate "C"
  on conflict (kind, key) do update set key = excluded.key where false;
end
$$;
