-- A pause of this kind begins or ends, which is a change of policy where limits of the kind exempt types: these are exempt
-- again when it ends, however it does. Daemons then open what limits closed, and pull out of it what came in meanwhile.
create or replace function outboxd.renew_exemptions(kind text) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
update outboxd.policy_version
set version = version + 1
where exists (
  select
  from outboxd.limit_rule
  where limit_rule.options ? 'exempt_types'
    and limit_rule.kind = any (case renew_exemptions.kind
      when 'provider' then array['provider_minute', 'provider_day'] else array[renew_exemptions.kind] end))
$$;
