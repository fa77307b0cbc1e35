-- Make or change a queue. Settings that are left out stay (a new queue: the defaults). Returns what changed, {} for
-- nothing; writes the operators' log. Refuses nonsense with 22023, naming the setting.
create or replace function outboxd.set_queue(name text, settings jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  before jsonb;
  changes jsonb;
  empty text;
begin
  if name is null or name !~ '^[a-z0-9][a-z0-9_.-]{0,62}$' then
    raise exception 'name: must be 1 to 63 lower-case letters, digits, "_", "." or "-"' using errcode = '22023';
  end if;
  perform outboxd.setting_known(settings, array['priority', 'weight', 'max_attempts', 'backoff',
    'backoff_base', 'give_up_after', 'dedupe_for', 'keep_done_for', 'keep_done', 'keep_failed_for', 'keep_failed',
    'critical']);
  select key into empty from jsonb_each(settings) where value = 'null' order by key limit 1;
  if found then
    raise exception '%: must have a value', empty using errcode = '22023';
  end if;

  perform from outboxd.queue where queue.name = set_queue.name for update;
  before := outboxd.queue_settings(name);
  if before is null then
    insert into outboxd.queue (name) values (set_queue.name);
  end if;
  update outboxd.queue
  set priority = coalesce(outboxd.setting_integer(settings, 'priority', 1, 100), priority),
    weight = coalesce(outboxd.setting_integer(settings, 'weight', 1, 100), weight),
    max_attempts = coalesce(outboxd.setting_integer(settings, 'max_attempts', 1, 100), max_attempts),
    backoff = coalesce(
      outboxd.setting_text(settings, 'backoff', choices => array['exponential', 'fixed']), backoff),
    backoff_base = coalesce(outboxd.setting_interval(settings, 'backoff_base', '1 ms', '1 h'), backoff_base),
    give_up_after = coalesce(outboxd.setting_interval(settings, 'give_up_after', '0', '22 h'), give_up_after),
    dedupe_for = coalesce(outboxd.setting_interval(settings, 'dedupe_for', '0', '3650 d'), dedupe_for),
    keep_done_for = coalesce(outboxd.setting_interval(settings, 'keep_done_for', '0', '3650 d'), keep_done_for),
    keep_done = coalesce(outboxd.setting_integer(settings, 'keep_done', 0, 1000000000), keep_done),
    keep_failed_for = coalesce(
      outboxd.setting_interval(settings, 'keep_failed_for', '0', '3650 d'), keep_failed_for),
    keep_failed = coalesce(outboxd.setting_integer(settings, 'keep_failed', 0, 1000000000), keep_failed)
  where queue.name = set_queue.name;
  update outboxd.queue
  set critical = outboxd.setting_boolean(settings, 'critical')
  where queue.name = set_queue.name and critical <> outboxd.setting_boolean(settings, 'critical');

  changes := outboxd.setting_changes(before, outboxd.queue_settings(name));
  if changes <> '{}' then
    perform outboxd.note_action('set', 'queue', name, changes);
  end if;
  return changes;
end
$$;
