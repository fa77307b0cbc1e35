-- Stop asking for something, for every daemon, until `until` or `resume`: within a second nothing of it is asked.
-- `kind` is queue, type, campaign, provider (of the mailboxes, by its name, or its domain), account or domain (of the
-- sender); domains are kept as A-labels. Emails keep their place and their attempts. An active pause is replaced, so that a person's
-- word stands above a daemon's, with its probes. The operators' log has it.
create or replace function outboxd.pause(kind text, key text, reason text, until timestamptz default null)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted text := case when pause.kind in ('domain', 'provider')
    then coalesce(outboxd.domain_to_ascii(pause.key), lower(pause.key)) else pause.key end;
begin
  if pause.kind is null or pause.kind not in ('queue', 'type', 'campaign', 'provider', 'account', 'domain') then
    raise exception 'kind: must be queue, type, campaign, provider, account or domain' using errcode = '22023';
  elsif wanted is null or wanted = '' or length(wanted) > 255 then
    raise exception 'key: must be 1 to 255 characters' using errcode = '22023';
  elsif pause.reason is null or pause.reason = '' or length(pause.reason) > 500 then
    raise exception 'reason: must be 1 to 500 characters' using errcode = '22023',
      hint = 'Say why: whoever finds the mail waiting will want to know.';
  elsif pause.until <= clock_timestamp() then
    raise exception 'until: lies in the past' using errcode = '22023';
  elsif pause.kind = 'queue' and not exists (select from outboxd.queue where queue.name = wanted) then
    raise exception 'key: there is no queue of this name' using errcode = '22023',
      hint = 'select name from outboxd.queue shows them.';
  elsif pause.kind = 'provider' and wanted ~ '[^\x01-\x7f]' then
    raise exception 'key: must be a provider''s name or a domain, whose letters can be written as A-labels'
      using errcode = '22023';
  elsif pause.kind = 'provider' and outboxd.provider_of(wanted) <> wanted then
    raise exception 'key: this domain is listed under a provider' using errcode = '22023',
      hint = format('Pause the provider: %s.', outboxd.provider_of(wanted));
  end if;
  insert into outboxd.pause as known (kind, key, reason, until, by)
  values (pause.kind, wanted, pause.reason, nullif(pause.until, 'infinity'), session_user)
  on conflict on constraint pause_pkey do update
  set reason = excluded.reason, detail = null, since = clock_timestamp(), until = excluded.until, probe_at = null,
    probe_every = null, by = excluded.by;
  perform outboxd.renew_exemptions(pause.kind);
  perform outboxd.note_action(
    'pause', pause.kind, wanted, jsonb_build_object('reason', pause.reason, 'until', pause.until));
end
$$;
