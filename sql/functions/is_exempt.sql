-- Whether what is closed is open for this type all the same: every limit that holds there exempts it. Not while people
-- paused it or the provider is suspended. Of two limits of a kind the one with a key of its own holds. Asked for each
-- email that is inserted behind a closed lane, so that what nearly always settles it is looked at first.
create or replace function outboxd.is_exempt(kind text, key text, type text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  kinds text[] := case is_exempt.kind
    when 'provider' then array['provider_minute', 'provider_day'] else array[is_exempt.kind] end;
begin
  if not exists (
    select from outboxd.limit_rule
    where limit_rule.kind = any (kinds) and limit_rule.options -> 'exempt_types' ? is_exempt.type)
  then
    return false;
  end if;
  return (
    select coalesce(bool_and(coalesce(rule.options -> 'exempt_types' ? is_exempt.type, false)), false)
      and not exists (
        select from outboxd.pause
        where pause.kind = is_exempt.kind and pause.key = is_exempt.key
          and (pause.until is null or pause.until > clock_timestamp()))
      and not (is_exempt.kind = 'provider' and exists (
        select from outboxd.provider_override
        where provider_override.provider = is_exempt.key and provider_override.suspended_until > clock_timestamp()))
    from unnest(kinds) as limited (kind)
    cross join lateral (
      select limit_rule.most, limit_rule.options
      from outboxd.limit_rule
      where limit_rule.kind = limited.kind and (limit_rule.key is null or limit_rule.key = is_exempt.key)
      order by limit_rule.key is null
      limit 1) as rule
    where rule.most is not null);
end
$$;
