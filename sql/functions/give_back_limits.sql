-- Take back shares that were granted and not used, under the arrays of grant_limits. An email with an open ambiguity
-- keeps its shares: it may have been accepted. A grant that was moved since stays too. Locks in the order of
-- grant_limits. What cannot be found any more is not given back: limits err on the low side.
create or replace function outboxd.give_back_limits(
  emails bigint[], granted_before timestamptz[], mailbox_of integer[], addresses text[],
  kinds text[], keys text[], share_of integer[], share_key integer[], share_units integer[])
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  hashes bytea[] := array(
    select outboxd.recipient_key(given.address)
    from unnest(addresses) with ordinality as given (address, place)
    order by given.place);
  unused boolean[] := array(
    select given.at is not null
      and not exists (select from outboxd.progress where progress.id = given.id and progress.ambiguous)
    from unnest(emails, granted_before) with ordinality as given (id, at, place)
    order by given.place);
begin
  perform from outboxd.recipient_count as known where known.key = any (hashes) order by known.key for update;
  perform from outboxd.window_count as known
  where (known.kind, known.key) in (select given.kind, given.key from unnest(kinds, keys) as given (kind, key))
  order by known.kind, known.key
  for update;

  update outboxd.recipient_count as known
  set (emails, at) = (
    select coalesce(array_agg(old.email order by old.at), '{}'), coalesce(array_agg(old.at order by old.at), '{}')
    from unnest(known.emails, known.at) as old (email, at)
    where not exists (
      select from unnest(freed.emails, freed.at) as gone (email, at)
      where gone.email = old.email and old.at <= gone.at))
  from (
    select hashes[pair] as key, array_agg(emails[mailbox_of[pair]]) as emails,
      array_agg(granted_before[mailbox_of[pair]]) as at
    from generate_subscripts(mailbox_of, 1) as pair
    where unused[mailbox_of[pair]]
    group by hashes[pair]) as freed
  where known.key = freed.key;

  perform outboxd.free_shares(kinds, keys, share_of, share_key, share_units, granted_before, unused);

  return (select count(*) from unnest(unused) as given (back) where given.back);
end
$$;
