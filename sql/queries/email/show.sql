-- Everything about one email but its payload. No row: there is no such email.
select
  email_status.*,
  cardinality(email.recipients) as recipients,
  coalesce((
    select jsonb_agg(jsonb_build_object(
      'asked_at', attempt.asked_at, 'ended_at', attempt.ended_at, 'outcome', attempt.outcome,
      'http_status', attempt.http_status, 'error', attempt.error_name, 'message', attempt.message,
      'provider_id', attempt.provider_id, 'late', not attempt.fenced) order by attempt.attempt_id)
    from outboxd.attempt
    where attempt.id = email_status.id), '[]') as history
from outboxd.email_status
join outboxd.email on email.id = email_status.id
where email_status.uid = %(uid)s
