-- The options of a limit of this kind after `settings`: exempt_types, sorted; pace, of an account; critical_share (0.1),
-- of its quotas; starts_on (1), of a month. Refuses what does not fit, naming it.
create or replace function outboxd.limit_options(kind text, options jsonb, settings jsonb) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  possible constant text[] := case kind
    when 'account' then '{pace}' when 'account_day' then '{critical_share}'
    when 'account_month' then '{critical_share,starts_on}' else '{exempt_types}' end;
  exempt jsonb := nullif(nullif(settings -> 'exempt_types', 'null'), '[]');
  stranger text;
begin
  select one.key into stranger
  from jsonb_each(settings) as one (key, value)
  where one.key in ('pace', 'critical_share', 'starts_on', 'exempt_types') and one.key <> all (possible)
    and one.value not in ('null', '[]');
  if found then
    raise exception '%: does not belong to limits of kind %', stranger, kind using errcode = '22023';
  elsif jsonb_typeof(exempt) <> 'array' or jsonb_array_length(exempt) > 100 or exists (
    select from jsonb_array_elements(exempt) as type
    where jsonb_typeof(type) <> 'string' or type #>> '{}' !~ '^[^[:cntrl:]]{1,100}$')
  then
    raise exception 'exempt_types: must be a list of at most 100 names of types' using errcode = '22023';
  end if;
  options := coalesce(options, '{}') - array(select jsonb_object_keys(settings));
  options := jsonb_strip_nulls(options || jsonb_build_object(
    'pace', coalesce(to_jsonb(outboxd.setting_share(settings, 'pace', 0.1, 1)), options -> 'pace'),
    'critical_share', coalesce(
      to_jsonb(outboxd.setting_share(settings, 'critical_share', 0, 0.9)), options -> 'critical_share', '0.1'),
    'starts_on', coalesce(
      to_jsonb(outboxd.setting_integer(settings, 'starts_on', 1, 28)), options -> 'starts_on', '1'),
    'exempt_types', coalesce((
      select jsonb_agg(distinct type order by type) from jsonb_array_elements_text(exempt) as type),
      options -> 'exempt_types')));
  return options - array(select key from jsonb_object_keys(options) as key where key <> all (possible));
end
$$;
