-- The settings of a limit as outboxd.set_limit takes them; null where there is no such limit.
create or replace function outboxd.limit_settings(name text) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
select jsonb_strip_nulls(jsonb_build_object(
    'kind', limit_rule.kind, 'key', limit_rule.key,
    'most', coalesce(to_jsonb(limit_rule.most), '"unlimited"'),
    'per', case when limit_rule.kind <> 'account_month' then outboxd.duration_text(limit_rule.per) end))
  || limit_rule.options
from outboxd.limit_rule
where limit_rule.name = limit_settings.name
$$;
