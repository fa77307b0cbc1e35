-- The pauses that hold an email, one row per kind: of its queue, of any of these types, campaigns and domains of
-- senders, of any provider of its recipients. Which account will ask is the daemons' to know: the account is paused where
-- every known one is. `until` null: until somebody resumes.
create or replace function outboxd.explain_pauses(
  queue text, types text[], campaigns text[], senders text[], recipients text[], at timestamptz)
returns table (kind text, keys text[], until timestamptz, detail text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
return query
with active as (
  select pause.kind, pause.key, pause.reason, coalesce(pause.until, 'infinity') as until
  from outboxd.pause
  where pause.until is null or pause.until > explain_pauses.at
), provider as (
  select coalesce(listed.name, of_domain.domain) as name, coalesce(listed.name, domain_mx.provider) as shaped_by
  from (select distinct split_part(address, '@', 2) as domain from unnest(recipients) as address) as of_domain
  cross join lateral (select outboxd.provider_of(of_domain.domain) as name) as listed
  left join outboxd.domain_mx on domain_mx.domain = of_domain.domain and domain_mx.expires_at > explain_pauses.at
  where exists (select from active where active.kind = 'provider')
)
select active.kind, array_agg(active.key),
  nullif(case when active.kind = 'account' then min(active.until) else max(active.until) end, 'infinity'),
  string_agg(format('%s: %s', active.key, active.reason), '; ' order by active.key)
from active
where case active.kind
    when 'account' then not exists (
      select from outboxd.account
      where not exists (select from active as other where other.kind = 'account' and other.key = account.name))
    when 'queue' then active.key = explain_pauses.queue
    when 'type' then active.key = any (types)
    when 'campaign' then active.key = any (campaigns)
    when 'domain' then active.key = any (senders)
    when 'provider' then exists (select from provider where active.key in (provider.name, provider.shaped_by))
  end
group by active.kind;
end
$$;
