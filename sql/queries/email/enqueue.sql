-- Insert one email.
select made.id, made.uid, made.duplicate
from outboxd.enqueue(%(payload)s::jsonb, %(type)s, queue => %(queue)s, dedupe_key => %(dedupe_key)s,
  scheduled_at => %(scheduled_at)s::timestamptz, expires_at => %(expires_at)s::timestamptz,
  priority => %(priority)s::smallint, max_attempts => %(max_attempts)s::smallint) as made
