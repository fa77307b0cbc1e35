-- After any change of policy, whoever makes it: daemons that poll the version read policy again.
create or replace function outboxd.raise_policy_version() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update outboxd.policy_version set version = version + 1;
  return null;
end
$$;

create or replace trigger raise_policy_version
after insert or update or delete or truncate on outboxd.queue
for each statement execute function outboxd.raise_policy_version();

create or replace trigger raise_policy_version
after insert or update or delete or truncate on outboxd.email_type
for each statement execute function outboxd.raise_policy_version();

create or replace trigger raise_policy_version
after insert or update or delete or truncate on outboxd.limit_rule
for each statement execute function outboxd.raise_policy_version();

create or replace trigger raise_policy_version
after insert or update or delete or truncate on outboxd.provider_override
for each statement execute function outboxd.raise_policy_version();
