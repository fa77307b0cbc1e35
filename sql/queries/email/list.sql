-- The newest emails that fit, at most `limit`; filters that are null match everything.
select
  email_status.uid, email_status.id, email_status.type, email_status.queue, email_status.state,
  email_status.attempts, email_status.created_at, email_status.scheduled_at, email_status.sent_at,
  email_status.provider_id, email_status.last_error
from outboxd.email_status
where (%(queue)s::text is null or email_status.queue = %(queue)s)
  and (%(type)s::text is null or email_status.type = %(type)s)
  and (%(state)s::text is null or email_status.state = %(state)s)
  and (%(recipient)s::text is null or email_status.id = any (array(
    select email.id from outboxd.email where email.recipients @> array[%(recipient)s]
    order by email.id desc limit 10000)))
order by email_status.id desc
limit %(limit)s
