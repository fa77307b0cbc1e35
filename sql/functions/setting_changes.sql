-- What differs between two sets of settings: {key: {"from": …, "to": …}}, null where one lacks the key.
create or replace function outboxd.setting_changes(before jsonb, after jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
select coalesce(jsonb_object_agg(key, jsonb_build_object('from', before -> key, 'to', after -> key)), '{}')
from jsonb_object_keys(coalesce(before, '{}') || coalesce(after, '{}')) as key
where before -> key is distinct from after -> key
$$;
