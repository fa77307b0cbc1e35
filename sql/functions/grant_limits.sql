-- Ask all limits of each email, all or nothing, in the emails' order: a share that a later limit refuses is never taken.
-- Reads the clock after the locks, or less than a part of `slack` before them: windows are longer by `slack`, the time that
-- may pass from grant to arrival. What an email has of a share already (`share_granted`, null: all of it) moves. A key with
-- a `key_day` counts months that begin on it, and grants nothing so near their turn. A share leaves `share_spare` free.
-- Places in emails ascend. One row per email: granted, or held by what.
drop function if exists outboxd.grant_limits(  -- one of both: older daemons call this one
  bigint[], timestamptz[], integer[], text[], integer[], interval[], text[], text[], integer[], interval[], integer[], text[],
  integer[], integer[], integer[], integer[], integer[], interval, timestamptz);
create or replace function outboxd.grant_limits(
  emails bigint[], granted_before timestamptz[],
  mailbox_of integer[], addresses text[], mailbox_most integer[], mailbox_per interval[],
  kinds text[], keys text[], key_most integer[], key_per interval[], key_day integer[], key_provider text[],
  key_demand integer[], share_of integer[], share_key integer[], share_units integer[], share_spare integer[],
  slack interval, bound_now timestamptz default null, share_granted integer[] default null)
returns table (email bigint, granted boolean, kind text, key text, free_at timestamptz, granted_at timestamptz)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  longer constant interval := slack + interval '5 ms';
  precision constant interval := '50 ms';  -- between begun_at, which new mailboxes are stamped with, and the grant
  mailbox_longer constant interval := slack + precision;
  patience constant interval := case when bound_now is null then slack / 4 end;  -- with the locks of windows
  hashes bytea[] := array(
    select outboxd.recipient_key(given.address)
    from unnest(addresses) with ordinality as given (address, place)
    order by given.place);
  begun_at constant timestamptz := coalesce(bound_now, clock_timestamp());
  instant timestamptz;
  all_made boolean := true;  -- whether lock_mailboxes made every row
  first_of integer[];   -- per mailbox asked: the first place with the same key
  others integer[];     -- grants to other emails that still count
  own boolean[];        -- whether this email's own grant still counts
  made boolean[];       -- whether lock_mailboxes made the row for it
  mailboxes_free boolean := true;
  used integer[];       -- per key
  most integer[];
  closed timestamptz[];
  counts_from timestamptz[];
  turns_at timestamptz[];   -- of months: when the next one grants
  moved constant boolean := exists (select from unnest(granted_before) as given (at) where given.at is not null);
  taken boolean := false;   -- whether take_shares has counted all windows
  roomy boolean;        -- whether each key has room even for what counts no more
  held record;
  all_passed boolean;
  passed boolean[] := array_fill(true, array[cardinality(emails)]);
  held_kind text[] := array_fill(null::text, array[cardinality(emails)]);
  held_key text[] := held_kind;
  free timestamptz[] := array_fill(null::timestamptz, array[cardinality(emails)]);
begin
  if hashes <> '{}' then
    all_made := outboxd.lock_mailboxes(emails, mailbox_of, hashes, mailbox_most, mailbox_per, begun_at);
  end if;
  instant := coalesce(bound_now, clock_timestamp());

  if all_made then
    first_of := array(select generate_subscripts(hashes, 1));
    others := array_fill(0, array[cardinality(hashes)]);
    own := array_fill(true, array[cardinality(hashes)]);
    made := own;
  else
    select found.first_of, found.others, found.own, found.made, found.free
    into first_of, others, own, made, mailboxes_free
    from outboxd.compare_mailboxes(
      emails, mailbox_of, hashes, mailbox_most, mailbox_per, begun_at, mailbox_longer, instant) as found;
  end if;

  if mailboxes_free and not moved then
    taken := outboxd.take_shares(
      kinds, keys, key_most, key_per, key_day, key_provider, key_demand,
      case when 0 < any (share_spare) then outboxd.demanded(kinds, passed, share_of, share_key, share_units) else key_demand end,
      longer, instant, patience);
  end if;
  if not taken then
    perform outboxd.lock_windows(kinds, keys, key_most, key_per, begun_at);
    instant := coalesce(bound_now, clock_timestamp());
    if not mailboxes_free then  -- what counted then may not count now
      select found.first_of, found.others, found.own, found.made, found.free
      into first_of, others, own, made, mailboxes_free
      from outboxd.compare_mailboxes(
        emails, mailbox_of, hashes, mailbox_most, mailbox_per, begun_at, mailbox_longer, instant) as found;
    end if;

    select coalesce(bool_and(
      coalesce((select sum(entry.n) from unnest(known.n) as entry (n)), 0) + given.demand <= given.most
      and (given.day is null or outboxd.month_turning(instant, given.day, longer) is null)), true)
    into roomy
    from unnest(kinds, keys, key_most, key_day, key_demand) as given (kind, key, most, day, demand)
    left join outboxd.window_count as known on known.kind = given.kind and known.key = given.key
    where given.most is not null;
    roomy := roomy and not exists (
      select from outboxd.provider_override as slowed where slowed.provider = any (key_provider));
  end if;

  if not (taken or mailboxes_free and roomy) then
    select array_agg(found.used order by found.place), array_agg(found.most order by found.place),
      array_agg(found.closed order by found.place), array_agg(found.counts_from order by found.place),
      array_agg(found.turns_at order by found.place)
    into used, most, closed, counts_from, turns_at
    from (
      select wanted.place, wanted.counts_from,
        case when wanted.day is not null then outboxd.month_turn(instant, wanted.day, longer) end as turns_at,
        (select coalesce(sum(entry.n), 0)::integer
          from unnest(known.at, known.n) as entry (at, n)
          where entry.at > wanted.counts_from) as used,
        case when slowed.rate_factor is null or wanted.most is null then wanted.most
          else greatest(1, floor(wanted.most * slowed.rate_factor))::integer end as most,
        case when slowed.suspended_until > instant then least(slowed.suspended_until, instant + interval '1 d')
          when wanted.day is not null then outboxd.month_turning(instant, wanted.day, longer) end as closed
      from (
        select given.kind, given.key, given.most, given.day, given.provider, given.place,
          case when given.day is null then instant - given.per - longer
            else outboxd.month_start(instant, given.day) end as counts_from
        from unnest(kinds, keys, key_most, key_per, key_day, key_provider)
          with ordinality as given (kind, key, most, per, day, provider, place)) as wanted
      left join outboxd.window_count as known
        on known.kind = wanted.kind and known.key = wanted.key and wanted.most is not null
      left join outboxd.provider_override as slowed on slowed.provider = wanted.provider) as found;
    for held in
      select refused.place, refused.kind, refused.key, refused.free_at
      from outboxd.refuse_limits(emails, granted_before, mailbox_of, addresses, hashes, mailbox_most, mailbox_per,
        first_of, others, own, kinds, keys, key_per, counts_from, turns_at, share_of, share_key, share_units, share_spare,
        used, most, closed, mailbox_longer, longer, instant, coalesce(share_granted, share_units)) as refused
    loop
      passed[held.place] := false;
      held_kind[held.place] := held.kind;
      held_key[held.place] := held.key;
      free[held.place] := held.free_at;
    end loop;
  end if;

  all_passed := (false = any (passed)) is not true;
  if begun_at < instant - precision then  -- what passed is stamped anew; what did not is still to be emptied
    all_made := false;
    made := array(
      select row_of.made and not passed[row_of.email]
      from unnest(made, mailbox_of) with ordinality as row_of (made, email, place)
      order by row_of.place);
  end if;
  if not (all_made and all_passed) then
    perform outboxd.write_mailboxes(
      emails, passed, made, mailbox_of, hashes, mailbox_per, mailbox_longer, instant);
  end if;
  if moved then
    perform outboxd.free_shares(kinds, keys, share_of, share_key, coalesce(share_granted, share_units), granted_before, passed);
  end if;
  if not taken then
    perform outboxd.write_shares(
      kinds, keys, key_most, key_per,
      case when not all_passed or 0 < any (share_spare)
        then outboxd.demanded(kinds, passed, share_of, share_key, share_units) else key_demand end,
      longer, instant);
  end if;
  return query
    select result.email, result.granted, result.kind, result.key, result.free_at, instant
    from unnest(emails, passed, held_kind, held_key, free) as result (email, granted, kind, key, free_at);
end
$$;
