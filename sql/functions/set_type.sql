-- Make, change or (settings null) remove the policy of a type. Settings that are left out stay; null takes the queue's.
-- Returns what changed, {} for nothing; writes the operators' log. Refuses nonsense with 22023, naming the setting.
create or replace function outboxd.set_type(name text, settings jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  before jsonb;
  changes jsonb;
  chosen text;
begin
  if name is null or name !~ '^[^[:cntrl:]]{1,100}$' then
    raise exception 'name: must be 1 to 100 characters without control characters' using errcode = '22023';
  end if;
  perform from outboxd.email_type where email_type.name = set_type.name for update;
  before := outboxd.type_settings(name);
  if settings is null then
    delete from outboxd.email_type where email_type.name = set_type.name;
    if not found then
      raise exception 'name: there is no policy for a type of this name' using errcode = '22023',
        hint = 'select name from outboxd.type_policy shows those there are.';
    end if;
    changes := outboxd.setting_changes(before, null);
    perform outboxd.note_action('remove', 'type', name, changes);
    return changes;
  end if;

  perform outboxd.setting_known(
    settings, array['queue', 'max_attempts', 'backoff', 'backoff_base', 'give_up_after']);
  chosen := outboxd.setting_text(settings, 'queue');
  if settings -> 'queue' = 'null' or chosen is not null and not exists (
    select from outboxd.queue where queue.name = chosen)
  then
    raise exception 'queue: there is no queue of this name' using errcode = '22023',
      hint = 'select name from outboxd.queue shows them; outboxd.set_queue makes one.';
  end if;
  if before is null then
    insert into outboxd.email_type (name) values (set_type.name);
  end if;
  update outboxd.email_type
  set queue = coalesce(chosen, queue),
    max_attempts = case when settings ? 'max_attempts'
      then outboxd.setting_integer(settings, 'max_attempts', 1, 100) else max_attempts end,
    backoff = case when settings ? 'backoff'
      then outboxd.setting_text(settings, 'backoff', choices => array['exponential', 'fixed']) else backoff end,
    backoff_base = case when settings ? 'backoff_base'
      then outboxd.setting_interval(settings, 'backoff_base', '1 ms', '1 h') else backoff_base end,
    give_up_after = case when settings ? 'give_up_after'
      then outboxd.setting_interval(settings, 'give_up_after', '0', '22 h') else give_up_after end
  where email_type.name = set_type.name;

  changes := outboxd.setting_changes(before, outboxd.type_settings(name));
  if changes <> '{}' then
    perform outboxd.note_action('set', 'type', name, changes);
  end if;
  return changes;
end
$$;
