-- Make the partitions of email, delivery and attempt well ahead of the ids handed out; returns how many were made.
-- Each is created standalone and then attached, so no application's INSERT waits for it. Should the default partition
-- have caught rows (nobody extended in time), new partitions begin above them and nothing is moved.
create or replace function outboxd.extend_partitions(size bigint default 1000000, ahead integer default 5)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  parent text;
  part text;
  low bigint;
  next_low bigint;
  made integer := 0;
  wanted bigint;
  strays bigint;
  patience constant text := current_setting('lock_timeout');  -- the caller's: a migration goes on in this transaction
begin
  if not pg_try_advisory_xact_lock(7101, 2) then
    return 0;
  end if;
  select coalesce(last_value, 0) / size + ahead into wanted from outboxd.email_id_seq;
  select coalesce(max(substring(child.relname from '\d+$')::bigint), -1) + 1 into next_low
  from pg_inherits join pg_class as child on child.oid = inhrelid
  where inhparent = 'outboxd.email'::regclass and child.relname ~ '^email_p\d+$';
  select max(id) / size + 1 into strays from outboxd.email_default;
  for low in greatest(next_low, strays) .. wanted loop
    foreach parent in array array['email', 'delivery', 'attempt'] loop
      part := format('%s_p%s', parent, lpad(low::text, 6, '0'));
      execute format('create table outboxd.%I (like outboxd.%I including defaults including constraints including storage)',
        part, parent);
      execute format('alter table outboxd.%I add constraint %I check (id >= %s and id < %s)',
        part, part || '_bounds', low * size, (low + 1) * size);
      perform set_config('lock_timeout', '50ms', true);
      execute format('alter table outboxd.%I attach partition outboxd.%I for values from (%s) to (%s)',
        parent, part, low * size, (low + 1) * size);
      perform set_config('lock_timeout', patience, true);
      execute format('alter table outboxd.%I drop constraint %I', part, part || '_bounds');
      made := made + 1;
    end loop;
  end loop;
  return made;
end
$$;
