-- Write one line of the operators' log: who did what to which key. Who is the login; a web board names the person
-- behind it by `set local outboxd.operator`. Detail must hold no personal data.
create or replace function outboxd.note_action(action text, kind text, key text, detail jsonb default '{}')
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
insert into outboxd.operator_log (who, action, kind, key, detail)
values (
  session_user || coalesce(' for ' || left(nullif(current_setting('outboxd.operator', true), ''), 100), ''),
  note_action.action, note_action.kind, note_action.key, note_action.detail)
$$;
