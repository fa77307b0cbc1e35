-- One row per email that the tables still know. Ask for one by uid or id; every state is a table's, but for `blocked`:
-- what a pause, an open breaker or `outboxd adopt` holds, and what is due and waits in a lane that a limit closed.
-- `reason` is why it ended, where the state does not say it: what suppressed or discarded it, the class of its last error.
create or replace view outboxd.email_status as
select
  email.uid,
  email.id,
  email.type,
  email.queue,
  email.tenant,
  case
    when delivery.id is not null then delivery.state
    when dead_letter.id is not null then
      case dead_letter.certainty when 'not_accepted' then 'dead' else 'unknown' end
    when held.id is not null then 'sending'
    when coalesce(member.id, ready.id) is null then null
    when closed.id is not null or ready.lane = -1000 or batch.due_at >= '9999-01-01 utc' then 'blocked'
    when coalesce(batch.due_at, ready.scheduled_at) <= clock_timestamp() then
      case when lane.until > clock_timestamp() then 'blocked' else 'ready' end
    when coalesce(member.id, progress.id) is not null then 'retrying'
    else 'scheduled'
  end as state,
  coalesce(delivery.attempts, dead_letter.attempts, batch.attempts, progress.attempts, 0)::integer as attempts,
  email.priority,
  email.created_at,
  coalesce(ready.scheduled_at, batch.due_at, email.scheduled_at) as scheduled_at,
  email.expires_at,
  case when delivery.state = 'sent' then delivery.at end as sent_at,
  coalesce(delivery.at, dead_letter.died_at) as ended_at,
  delivery.provider_id,
  coalesce(dead_letter.message, batch.last_error, progress.last_error) as last_error,
  coalesce(batch.ambiguous, progress.ambiguous, dead_letter.certainty = 'maybe_accepted', false) as ambiguous,
  coalesce(batch.crash_streak, progress.crash_streak, 0)::integer as crash_streak,
  email.dedupe_key,
  coalesce(delivery.reason, dead_letter.error_class) as reason
from outboxd.email
left join outboxd.delivery on delivery.id = email.id
left join outboxd.dead_letter on dead_letter.id = email.id
left join outboxd.ready on ready.id = email.id
left join outboxd.progress on progress.id = email.id
left join outboxd.batch_member as member on member.id = email.id
left join outboxd.batch on batch.batch_uid = member.batch_uid
left join outboxd.lane_closed as lane on lane.id = coalesce(batch.lane, ready.lane)
left join lateral (
  select pauses.key as id
  from outboxd.pauses
  where pauses.kind in ('account', 'breaker') or (pauses.kind, pauses.key) in (('queue', email.queue), (lane.kind, lane.key))
  limit 1) as closed on true
left join lateral (select email.id from outboxd.lease where email.id = any (lease.ids) limit 1) as held on true;
