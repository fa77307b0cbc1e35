-- The operators' log is added to, never changed, whoever asks.
create or replace function outboxd.keep_operator_log() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'operator_log: rows are added, never changed or removed' using errcode = '42501';
end
$$;

create or replace trigger keep_operator_log
before update or delete or truncate on outboxd.operator_log
for each statement execute function outboxd.keep_operator_log();
