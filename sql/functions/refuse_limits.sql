-- The emails, by place, that cannot have all their shares when those before them get theirs; each with the limit that
-- frees last and when. Decides only; grant_limits has locked and read the counts. A share leaves `share_spare` free. Of an
-- email that was granted before, `share_granted` units are counted already; it needs only the others.
drop function if exists outboxd.refuse_limits(
  bigint[], timestamptz[], integer[], text[], bytea[], integer[], interval[], integer[], integer[], boolean[], text[], text[],
  interval[], timestamptz[], timestamptz[], integer[], integer[], integer[], integer[], integer[], integer[], timestamptz[],
  interval, interval, timestamptz);
create or replace function outboxd.refuse_limits(
  emails bigint[], granted_before timestamptz[], mailbox_of integer[], addresses text[], hashes bytea[],
  mailbox_most integer[], mailbox_per interval[], first_of integer[], others integer[], own boolean[],
  kinds text[], keys text[], key_per interval[], counts_from timestamptz[], turns_at timestamptz[],
  share_of integer[], share_key integer[], share_units integer[], share_spare integer[],
  used integer[], most integer[], closed timestamptz[], mailbox_longer interval, longer interval,
  instant timestamptz, share_granted integer[])
returns table (place integer, kind text, key text, free_at timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  mailbox_taken integer[] := array_fill(0, array[cardinality(addresses)]);
  counted integer[] := array_fill(0, array[cardinality(share_of)]);  -- of each share, units that still count
  m integer := 1;
  s integer := 1;
  first_m integer;
  first_s integer;
  k integer;
  room integer;
  candidate timestamptz;
begin
  for email in 1 .. cardinality(emails) loop
    first_m := m;
    first_s := s;
    free_at := null;
    while mailbox_of[m] = email loop
      room := mailbox_most[m] - mailbox_taken[first_of[m]];
      if not own[m] and others[m] >= room then
        candidate := mailbox_per[m] + mailbox_longer + coalesce(
          outboxd.mailbox_free_at(hashes[m], emails[email], instant - mailbox_per[m] - mailbox_longer, room),
          instant);
        if free_at is null or candidate > free_at then
          place := email;
          kind := 'recipient';
          key := addresses[m];
          free_at := candidate;
        end if;
      end if;
      m := m + 1;
    end loop;
    while share_of[s] = email loop
      k := share_key[s];
      if granted_before[email] > counts_from[k] then
        counted[s] := share_granted[s];
      end if;
      room := most[k] - share_spare[s];
      candidate := closed[k];
      if candidate is null and counted[s] < share_units[s]
        and used[k] - counted[s] + least(share_units[s], room) > room
      then
        candidate := coalesce(turns_at[k], key_per[k] + longer + coalesce(
          outboxd.window_free_at(kinds[k], keys[k], counts_from[k],
            used[k] - counted[s] + least(share_units[s], room) - room), instant));
      end if;
      if free_at is null and candidate is not null or candidate > free_at then
        place := email;
        kind := kinds[k];
        key := keys[k];
        free_at := candidate;
      end if;
      s := s + 1;
    end loop;
    if free_at is not null then
      return next;
      continue;
    end if;
    for pair in first_m .. m - 1 loop
      if not own[pair] then
        mailbox_taken[first_of[pair]] := mailbox_taken[first_of[pair]] + 1;
      end if;
    end loop;
    for pair in first_s .. s - 1 loop
      k := share_key[pair];
      used[k] := used[k] + share_units[pair] - counted[pair];
    end loop;
  end loop;
end
$$;
