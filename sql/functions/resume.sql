-- Ask again for what was paused, by a person or by a daemon; true where there was a pause. Kind `breaker` closes the
-- breaker of an account, whatever its probes say. The end of either wakes the daemons. The operators' log has it.
create or replace function outboxd.resume(kind text, key text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted text := case when resume.kind in ('domain', 'provider') then lower(resume.key) else resume.key end;
begin
  if resume.kind is null
    or resume.kind not in ('queue', 'type', 'campaign', 'provider', 'account', 'domain', 'breaker')
  then
    raise exception 'kind: must be queue, type, campaign, provider, account, domain or breaker' using errcode = '22023';
  elsif resume.kind = 'breaker' then
    update outboxd.breaker
    set state = 'closed', failed_at = '{}', opened_at = null, probe_at = null, cause = null, probes = 0
    where breaker.account = wanted and breaker.state <> 'closed';
  else
    if resume.kind in ('domain', 'provider') and not exists (
      select from outboxd.pause where pause.kind = resume.kind and pause.key = wanted)
    then
      wanted := coalesce(outboxd.domain_to_ascii(resume.key), wanted);
    end if;
    delete from outboxd.pause
    where pause.kind = resume.kind and pause.key = wanted;
  end if;
  if not found then
    return false;
  end if;
  perform outboxd.renew_exemptions(resume.kind);
  perform outboxd.note_action('resume', resume.kind, wanted);
  return true;
end
$$;
