-- Write what grant_limits decided about mailboxes, into rows that it locked: an email's older entry is replaced, a new
-- row that was filled ahead stays as it is, or is emptied where the email was refused. Instants never go back.
create or replace function outboxd.write_mailboxes(
  emails bigint[], passed boolean[], fresh boolean[], mailbox_of integer[], hashes bytea[], mailbox_per interval[],
  longer interval, instant timestamptz)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update outboxd.recipient_count as known
  set (emails, at) = (
      select known.emails[gone.upto + 1 :] || taken.emails,
        known.at[gone.upto + 1 :] || array_fill(
          greatest(instant, known.at[cardinality(known.at)]), array[cardinality(taken.emails)])
      from (select width_bucket(instant - greatest(known.per, taken.per) - longer, known.at) as upto) as gone
      where not known.emails && taken.emails
      union all
      select array_agg(entry.email order by entry.at), array_agg(entry.at order by entry.at)
      from (
        select old.email, old.at
        from unnest(known.emails, known.at) as old (email, at)
        where old.at > instant - greatest(known.per, taken.per) - longer and old.email <> all (taken.emails)
        union all
        select added.email, greatest(instant, known.at[cardinality(known.at)])
        from unnest(taken.emails) as added (email)) as entry
      having known.emails && taken.emails),
    per = greatest(known.per, taken.per),
    stale_at = greatest(known.stale_at, date_bin('10 min', instant + taken.per + '20 min', 'epoch'))
  from (
    select hashes[pair] as key, array_agg(write_mailboxes.emails[mailbox_of[pair]]) as emails,
      max(mailbox_per[pair]) as per
    from generate_subscripts(mailbox_of, 1) as pair
    where passed[mailbox_of[pair]] and not fresh[pair]
    group by hashes[pair]) as taken
  where known.key = taken.key;

  update outboxd.recipient_count as known
  set emails = '{}', at = '{}'
  from generate_subscripts(mailbox_of, 1) as pair
  where known.key = hashes[pair] and fresh[pair] and not passed[mailbox_of[pair]];
end
$$;
