-- One row per email that the tables still know. Ask for one by uid or id; every state is a table's.
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
    when ready.id is null then null
    when ready.lane = -1000 then 'blocked'
    when ready.scheduled_at <= clock_timestamp() then 'ready'
    when progress.id is not null then 'retrying'
    else 'scheduled'
  end as state,
  coalesce(delivery.attempts, dead_letter.attempts, progress.attempts, 0)::integer as attempts,
  email.priority,
  email.created_at,
  coalesce(ready.scheduled_at, email.scheduled_at) as scheduled_at,
  email.expires_at,
  case when delivery.state = 'sent' then delivery.at end as sent_at,
  coalesce(delivery.at, dead_letter.died_at) as ended_at,
  delivery.provider_id,
  coalesce(dead_letter.message, progress.last_error) as last_error,
  coalesce(progress.ambiguous, dead_letter.certainty = 'maybe_accepted', false) as ambiguous,
  coalesce(progress.crash_streak, 0)::integer as crash_streak,
  email.dedupe_key
from outboxd.email
left join outboxd.delivery on delivery.id = email.id
left join outboxd.dead_letter on dead_letter.id = email.id
left join outboxd.ready on ready.id = email.id
left join outboxd.progress on progress.id = email.id
left join lateral (select email.id from outboxd.lease where email.id = any (lease.ids) limit 1) as held on true;
