-- Which of these privileges in schema outboxd the current role lacks; what does not exist is not named. Reads the
-- catalog only, so that a role without any right may ask. No row: it has them all.
select 'usage on schema outboxd' as lacking
from pg_catalog.pg_namespace
where nspname = 'outboxd' and not has_schema_privilege(oid, 'usage')
union all
select wanted.privilege || ' on ' || wanted.name
from unnest(%(privileges)s::text[], %(names)s::text[]) as wanted (privilege, name)
join pg_catalog.pg_namespace on pg_namespace.nspname = 'outboxd'
left join pg_catalog.pg_class
  on pg_class.relnamespace = pg_namespace.oid and pg_class.relname = wanted.name and wanted.privilege <> 'execute'
left join pg_catalog.pg_proc
  on pg_proc.pronamespace = pg_namespace.oid and pg_proc.proname = wanted.name and wanted.privilege = 'execute'
where case
  when pg_proc.oid is not null then not has_function_privilege(pg_proc.oid, 'execute')
  when pg_class.oid is null then false
  when wanted.privilege = 'delete' then not has_table_privilege(pg_class.oid, 'delete')
  else not has_any_column_privilege(pg_class.oid, wanted.privilege)
end
