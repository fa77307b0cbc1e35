-- Ask again for what was paused, by a person or by a daemon; true where there was a pause. Daemons are woken.
create or replace function outboxd.resume(kind text, key text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from outboxd.pause
  where pause.kind = resume.kind
    and pause.key = case when resume.kind = 'domain' then lower(resume.key) else resume.key end;
  if not found then
    return false;
  end if;
  perform pg_notify('outboxd', '');
  return true;
end
$$;
