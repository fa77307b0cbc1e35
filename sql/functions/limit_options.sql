-- The options of a limit of this kind after `settings`: exempt_types, sorted, and pace. Refuses what does not fit.
create or replace function outboxd.limit_options(kind text, options jsonb, settings jsonb) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  exempt jsonb := nullif(settings -> 'exempt_types', 'null');
  pace jsonb := nullif(settings -> 'pace', 'null');
begin
  options := coalesce(options, '{}') - array(select jsonb_object_keys(settings))
    - case kind when 'account' then 'exempt_types' else 'pace' end;
  if pace is not null then
    if kind <> 'account' or jsonb_typeof(pace) <> 'number' or pace::numeric not between 0.1 and 1 then
      raise exception 'pace: must be a number between 0.1 and 1, and belongs to limits of kind account'
        using errcode = '22023';
    end if;
    options := options || jsonb_build_object('pace', pace);
  end if;
  if exempt is not null and exempt <> '[]' then
    if kind = 'account' or jsonb_typeof(exempt) <> 'array' or jsonb_array_length(exempt) > 100 or exists (
      select from jsonb_array_elements(exempt) as type
      where jsonb_typeof(type) <> 'string' or type #>> '{}' !~ '^[^[:cntrl:]]{1,100}$')
    then
      raise exception 'exempt_types: must be a list of at most 100 names of types; none for kind account'
        using errcode = '22023';
    end if;
    options := options || jsonb_build_object('exempt_types', (
      select jsonb_agg(distinct type order by type) from jsonb_array_elements_text(exempt) as type));
  end if;
  return options;
end
$$;
