-- What mailboxes, which the caller has locked, hold at an instant. Arrays by place: the first place with the same key;
-- grants to other emails that still count; whether this email's own still does; whether lock_mailboxes made the row for it,
-- at `begun_at`. `free` says whether nobody is to be refused.
create or replace function outboxd.compare_mailboxes(
  emails bigint[], mailbox_of integer[], hashes bytea[], mailbox_most integer[], mailbox_per interval[],
  begun_at timestamptz, longer interval, instant timestamptz,
  out first_of integer[], out others integer[], out own boolean[], out made boolean[], out free boolean)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  select array_agg(found.first_of order by found.place), array_agg(found.others order by found.place),
    array_agg(found.own order by found.place), array_agg(found.made order by found.place),
    coalesce(bool_and(found.own or found.others < found.most and found.first_of = found.place), true)
  into first_of, others, own, made, free
  from (
    select pair.place, pair.most, min(pair.place) over (partition by pair.hash) as first_of,
      case when known.emails <@ array[compare_mailboxes.emails[pair.email]] then 0 else (
        select count(*)::integer
        from unnest(known.emails, known.at) as entry (email, at)
        where entry.at > instant - pair.per - longer and entry.email <> compare_mailboxes.emails[pair.email])
      end as others,
      coalesce(known.at[array_position(known.emails, compare_mailboxes.emails[pair.email])] > instant - pair.per - longer,
        false) as own,
      known.at = array[begun_at] and known.emails = array[compare_mailboxes.emails[pair.email]] as made
    from unnest(hashes, mailbox_of, mailbox_most, mailbox_per) with ordinality as pair (hash, email, most, per, place)
    join outboxd.recipient_count as known on known.key = pair.hash
  ) as found;
end
$$;
