-- The row of email_status for one email; no row where there is no such email.
create or replace function outboxd.status(uid uuid) returns setof outboxd.email_status
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
select * from outboxd.email_status where email_status.uid = status.uid
$$;
