-- Make, change or (settings null) remove a limit. Settings that are left out stay; `most` "unlimited" or null switches
-- it off for its key, `key` null makes it hold for each key by itself; another `kind` takes its own `per`. Returns what
-- changed, {} for nothing; writes the operators' log. Refuses nonsense with 22023, naming the setting.
create or replace function outboxd.set_limit(name text, settings jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  rule outboxd.limit_rule;
  before jsonb;
  changes jsonb;
  twin text;
  needed text;
begin
  if name is null or name !~ '^[a-z0-9][a-z0-9_.-]{0,62}$' then
    raise exception 'name: must be 1 to 63 lower-case letters, digits, "_", "." or "-"' using errcode = '22023';
  end if;
  select * into rule from outboxd.limit_rule where limit_rule.name = set_limit.name for update;
  before := outboxd.limit_settings(name);
  if settings is null then
    if before is null then
      raise exception 'name: there is no limit of this name' using errcode = '22023',
        hint = 'select name from outboxd.limit_policy shows those there are.';
    end if;
    delete from outboxd.limit_rule where limit_rule.name = set_limit.name;
    changes := outboxd.setting_changes(before, null);
    perform outboxd.note_action('remove', 'limit', name, changes);
    return changes;
  end if;

  perform outboxd.setting_known(settings, array[
    'kind', 'key', 'most', 'per', 'exempt_types', 'pace', 'critical_share', 'starts_on']);
  rule.name := name;
  rule.kind := coalesce(outboxd.setting_text(settings, 'kind', choices => array[
    'recipient', 'provider_minute', 'provider_day', 'account', 'account_day', 'account_month', 'queue', 'type', 'campaign',
    'tenant']), rule.kind);
  if rule.kind = 'account_month' and settings -> 'per' <> 'null' then
    raise exception 'per: a month is as long as it is; leave it out' using errcode = '22023';
  end if;
  rule.per := coalesce(outboxd.setting_interval(settings, 'per', '1 ms', '31 d'),
    case when rule.kind = before ->> 'kind' and not settings ? 'per' then rule.per end,
    case rule.kind when 'account_day' then interval '24 h' when 'account_month' then interval '31 d' end);
  foreach needed in array case when rule.kind in ('account_day', 'account_month') then array['kind', 'most']
    else array['kind', 'most', 'per'] end
  loop
    if before is null and not settings ? needed or needed <> 'most' and settings -> needed = 'null'
      or needed = 'per' and rule.per is null
    then
      raise exception '%: is missing', needed using errcode = '22023',
        hint = 'A new limit is such as {"kind": "tenant", "most": 100, "per": "1 h"}.';
    end if;
  end loop;
  rule.key := outboxd.limit_key(rule.kind, case when settings ? 'key'
    then outboxd.setting_text(settings, 'key', '^[^[:cntrl:]]{1,253}$') else rule.key end);
  if settings -> 'most' = '"unlimited"' then
    rule.most := null;
  elsif settings ? 'most' then
    rule.most := outboxd.setting_integer(settings, 'most', 1, 1000000000);
  end if;
  rule.options := outboxd.limit_options(rule.kind, rule.options, settings);
  select limit_rule.name into twin
  from outboxd.limit_rule
  where limit_rule.kind = rule.kind and limit_rule.key is not distinct from rule.key and limit_rule.name <> rule.name;
  if found then
    raise exception 'key: the limit % has this kind and key', twin using errcode = '22023';
  end if;

  insert into outboxd.limit_rule values (rule.*)
  on conflict on constraint limit_rule_pkey do update
  set kind = excluded.kind, key = excluded.key, most = excluded.most, per = excluded.per, options = excluded.options;
  changes := outboxd.setting_changes(before, outboxd.limit_settings(name));
  if changes <> '{}' then
    perform outboxd.note_action('set', 'limit', name, changes);
  end if;
  return changes;
end
$$;
